"""The catalogue: which models exist, and under which names.

Owns the way from a name in a request to a model. Reads no model file and starts nothing.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from llamaproxy.config import Config
from llamaproxy.errors import InvalidRequest, ModelNotFound
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.models.scan import FoundModel

BUNDLED_NAME = "smollm2-135m"
Edits = Mapping[str, Mapping[str, Any]]
_LONGEST_ECHO = 128
_MOST_PARTS = 64
"""A name has 128 characters at most, so no more parts than this between its slashes."""


@dataclass(frozen=True, slots=True)
class Model:
    """`source` says where it comes from: "configured", "scanned" or "bundled". `rewritten`: its server gets a name or
    parameters that are not the client's."""

    name: str
    config: ModelConfig
    source: str
    rewritten: bool = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        rewritten = config.path is None or bool(config.set_params or config.strip_params)
        object.__setattr__(self, "rewritten", rewritten)


class Catalogue:
    """All models by name; names and aliases are unique together, which the configuration has checked."""

    def __init__(self, models: Iterable[Model]) -> None:
        self.models: Mapping[str, Model] = {model.name: model for model in models}
        self._names = {alias: model for model in self.models.values() for alias in model.config.aliases}
        self._names |= self.models

    @property
    def configs(self) -> Mapping[str, ModelConfig]:
        return {name: model.config for name, model in self.models.items()}

    def resolve(self, name: str | None) -> Model:
        """The model of a name or alias; without a name, the only one there is.

        Raises ModelNotFound, which names the nearest, or InvalidRequest where a name is needed.
        """
        if name is None:
            return self._only()
        if model := self._names.get(name):
            return model
        known = ", ".join(difflib.get_close_matches(name[:_LONGEST_ECHO], self._names, n=3, cutoff=0.4))
        hint = f"; did you mean {known}?" if known else "; GET /v1/models lists what there is"
        raise ModelNotFound(f"there is no model {name[:_LONGEST_ECHO]!r}{hint}", param="model")

    def find(self, name: str) -> Model | None:
        """The model that has this name or alias, if there is one."""
        return self._names.get(name)

    def split_path(self, path: str) -> tuple[Model, str]:
        """The model that a raw path begins with, and the rest of it as it is spelled.

        A model's name may have slashes in it, and they may be spelled as such or escaped. Raises ModelNotFound.
        """
        parts = path.split("/")
        spelled = [unquote(part) for part in parts[:_MOST_PARTS]]
        for count in range(len(spelled), 0, -1):
            if model := self._names.get("/".join(spelled[:count])):
                return model, "/" + "/".join(parts[count:])
        return self.resolve(spelled[0]), "/"

    def _only(self) -> Model:
        if len(self.models) == 1:
            return next(iter(self.models.values()))
        if not self.models:
            raise ModelNotFound("no model is configured: add a [models.NAME] table with its path", param="model")
        raise InvalidRequest("`model` is missing, and there is more than one", param="model")


def build(
    config: Config, bundled: Path | None, scanned: Iterable[FoundModel] = (), edits: Edits | None = None
) -> Catalogue:
    """The configured models and those of the scanned directory, or else the bundled one, whose file is `bundled`.

    A configured name or alias goes before a scanned one. `edits` are settings of models that no configuration names.
    """
    edits = edits or {}
    models = [Model(name, model, "configured") for name, model in config.models.items()]
    taken = {*config.models, *(alias for model in config.models.values() for alias in model.aliases)}
    models += (_scanned(found, edits.get(found.name, {})) for found in scanned if found.name not in taken)
    if not models and bundled and config.catalog.bundled:
        settings = {"description": "SmolLM2 135M Instruct, comes with the embedded engine"}
        settings |= {**edits.get(BUNDLED_NAME, {}), "path": str(bundled)}
        models.append(Model(BUNDLED_NAME, ModelConfig.model_validate(settings), "bundled"))
    return Catalogue(models)


def _scanned(found: FoundModel, settings: Mapping[str, Any]) -> Model:
    files = {"path": str(found.path), "mmproj": str(found.mmproj) if found.mmproj else None}
    return Model(found.name, ModelConfig.model_validate({**settings, **files}), "scanned")
