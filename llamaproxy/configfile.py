"""From file and environment to a Config.

Owns the search for the file, the order of precedence (flag, environment, file, default) and the words in which
faults are told: an unknown name is answered with the one that was probably meant. The keys themselves stand
in `config`.
"""

import difflib
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from platformdirs import user_config_path
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from llamaproxy.config import Config, KeyConfig, ModelConfig
from llamaproxy.errors import ConfigError

PREFIX = "LLAMAPROXY_"
FILE_VARIABLE = "LLAMAPROXY_CONFIG"
_NOT_SETTINGS = {FILE_VARIABLE, "LLAMAPROXY_URL", "LLAMAPROXY_API_KEY"}
_TABLES: dict[str, type[BaseModel]] = {"models": ModelConfig, "keys": KeyConfig}


def find_file(explicit: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The configuration file to read: `explicit`, $LLAMAPROXY_CONFIG, ./llamaproxy.toml, the user's own; or none.

    Raises ConfigError where a file was asked for and is not there.
    """
    named = explicit or (Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else None)
    if named:
        if not named.is_file():
            raise ConfigError(f"{named}: no such configuration file (`llamaproxy init {named}` writes one)")
        return named
    candidates = (Path("llamaproxy.toml"), user_config_path("llamaproxy") / "llamaproxy.toml")
    return next((path for path in candidates if path.is_file()), None)


def load(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Config:
    """The effective configuration: `overrides` (flags) over environment over file over defaults.

    Raises ConfigError with one line per fault.
    """

    class Loaded(Config, BaseSettings):
        model_config = SettingsConfigDict(extra="forbid", frozen=True)

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            file = (TomlConfigSettingsSource(settings_cls, toml_file=path),) if path else ()
            return (init_settings, _Variables(settings_cls), *file)

    if unknown := list(_unknown_variables(os.environ)):
        raise ConfigError("\n".join(unknown))
    try:
        return Loaded(**(overrides or {}))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error))) from error


def _explain(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False):
        where = ".".join(str(part) for part in fault["loc"] if part != "[key]")
        if fault["type"] == "extra_forbidden":
            yield f"{where}: unknown key{_nearest(str(fault['loc'][-1]), _keys_at(fault['loc'][:-1]))}"
        elif fault["type"] == "missing":
            yield f"{where}: must be set"
        elif fault["type"] == "value_error":
            yield ": ".join(filter(None, (where, str(fault["ctx"]["error"]))))
        else:
            yield f"{where}: {fault['msg']}, not {fault['input']!r:.80}"


class _Variables(PydanticBaseSettingsSource):
    """`LLAMAPROXY_SECTION__KEY` as nested tables.

    The library's own source lowers the names of an engine's variables and asks for JSON wherever a list is wanted.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        tables: dict[str, Any] = {}
        for *sections, key, value in _variables(os.environ):
            table = tables
            for section in sections:
                table = table.setdefault(section, {})
            table[key] = value
        return tables


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Each of our variables as the path of its key and its value; empty ones count as unset."""
    for variable, value in environ.items():
        if variable.startswith(PREFIX) and variable not in _NOT_SETTINGS and value:
            yield (*_path(variable), value)


def _path(variable: str) -> tuple[str, ...]:
    *sections, key = variable[len(PREFIX) :].split("__")
    lowered = tuple(section.lower() for section in sections)
    return (*lowered, key if lowered[-1:] == ("env",) else key.lower())


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    for variable in environ:
        if not variable.startswith(PREFIX) or variable in _NOT_SETTINGS:
            continue
        path = _path(variable)
        for depth, part in enumerate(path):
            valid = _keys_at(path[:depth])
            if part not in valid and not _is_free(path[:depth]):
                yield f"{variable}: unknown setting{_nearest(part, valid, partial(_variable, path, depth))}"
                break
        else:
            if len(path) == 1:
                yield f"{variable}: {path[0]} is a section; set {variable}__KEY"


def _variable(path: tuple[str, ...], depth: int, name: str) -> str:
    return PREFIX + "__".join((*path[:depth], name, *path[depth + 1 :])).upper()


def _nearest(name: str, valid: list[str], spell: Callable[[str], str] = str) -> str:
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    if close:
        return f", did you mean {spell(close[0])}?"
    return f"; valid here: {', '.join(valid)}" if valid else ""


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    """The keys that are valid inside the table at `location`."""
    match location:
        case ():
            return list(Config.model_fields)
        case (section,) if section in Config.model_fields and section not in _TABLES:
            return list(_section(section).model_fields)
        case (section, _) if section in _TABLES:
            return list(_TABLES[section].model_fields)
        case _:
            return []


def _section(name: str) -> type[BaseModel]:
    annotation = Config.model_fields[name].annotation
    assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation


def _is_free(location: tuple[str, ...]) -> bool:
    """Whether any key is valid at `location`: the tables of names, and the variables of an environment."""
    return location in {("models",), ("keys",), ("engine", "env")} or (
        len(location) == 3 and location[0] == "models" and location[2] == "env"
    )
