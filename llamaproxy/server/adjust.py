"""What may be changed while the gateway runs: settings of the scheduler, the log level, pins.

Pure: from what is loaded to what shall be in force instead, until the next reload or restart; nothing is written to
a file. Owns which settings these are. They have the types and bounds of the configuration, because they are its own.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from llamaproxy.config import BreakerConfig, Config, LimitsConfig, TelemetryConfig
from llamaproxy.effective import Origin, Origins
from llamaproxy.errors import InvalidRequest
from llamaproxy.modelconfig import MEANINGLESS
from llamaproxy.models.catalogue import Catalogue
from llamaproxy.server.loaded import Loaded


class LogSettings(BaseModel):
    """What of `telemetry` can be changed at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description=TelemetryConfig.model_fields["log_level"].description
    )


class Settings(BaseModel):
    """Only what is named is changed; null unsets what can be unset."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    limits: LimitsConfig = LimitsConfig()
    breaker: BreakerConfig = BreakerConfig()
    telemetry: LogSettings = LogSettings()


def settings_of(config: Config) -> dict[str, dict[str, Any]]:
    """The values in force of everything that can be changed, in the shape of the configuration."""
    kinds: dict[str, type[BaseModel]] = {"limits": LimitsConfig, "breaker": BreakerConfig, "telemetry": LogSettings}
    return {
        section: getattr(config, section).model_dump(mode="json", include=set(kind.model_fields))
        for section, kind in kinds.items()
    }


def with_settings(loaded: Loaded, settings: Settings) -> Loaded:
    """What the settings name is as they say; all else stays."""
    named: Mapping[str, dict[str, Any]] = settings.model_dump(exclude_unset=True)
    sections = {section: getattr(loaded.config, section).model_copy(update=values) for section, values in named.items()}
    origins: Origins = {(section, key): Origin.RUNTIME for section, values in named.items() for key in values}
    config = loaded.config.model_copy(update=sections)
    return replace(loaded, config=config, origins={**loaded.origins, **origins})


def with_pin(loaded: Loaded, name: str, pinned: bool) -> Loaded:
    """Whether the model may be evicted is as it is said here. Raises InvalidRequest for one that never is."""
    model = loaded.catalogue.models[name]
    if "pinned" in MEANINGLESS[model.config.kind]:
        raise InvalidRequest(f"{name} is served elsewhere: it takes no place here, and is never evicted", param="name")
    changed = model.config.model_copy(update={"pinned": pinned})
    models = {**loaded.catalogue.models, name: replace(model, config=changed)}
    config = loaded.config
    if name in config.models:
        config = config.model_copy(update={"models": {**config.models, name: changed}})
    origins = {**loaded.origins, ("models", name, "pinned"): Origin.RUNTIME}
    return replace(loaded, config=config, catalogue=Catalogue(models.values()), origins=origins)
