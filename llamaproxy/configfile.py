"""From file and environment to a Config.

Owns the order of precedence (flag, environment, edits, file, default) and the words in which faults are told. The keys
themselves stand in `config`, the file is `document`'s, and what was meant by an unknown name is told by `variables`.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from llamaproxy import edits, secretfiles
from llamaproxy.config import Config
from llamaproxy.document import find_file, read
from llamaproxy.edits import Document
from llamaproxy.effective import Origin, Origins, SecretFile, trace
from llamaproxy.errors import ConfigError
from llamaproxy.variables import keys_at, nearest, nested, printable, unknown

Layers = Mapping[Origin, Mapping[str, Any]]
Version = tuple[int, ...] | None
Signature = tuple[tuple[Version, ...], Version]
"""Of the file and those of secrets, and of the file of edits; None where there is none."""


def load(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Config:
    """The effective configuration: `overrides` (flags) over environment over edits over file over defaults.

    Raises ConfigError with one line per fault.
    """
    return judge(read(path) if path else {}, overrides)


def judge(document: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Config:
    """The same, of what stands in a file or is to stand there."""
    return _validated(_layers(document, overrides))


def _layers(document: Mapping[str, Any], overrides: Mapping[str, Any] | None, edited: Document | None = None) -> Layers:
    """What each place says, the weakest first; `edited` instead of the file of edits."""
    environ = secretfiles.filled(os.environ)
    if wrong := list(unknown(environ)):
        raise ConfigError("\n".join(wrong))
    layers = {Origin.FILE: document, Origin.ENVIRONMENT: nested(environ), Origin.FLAG: overrides or {}}
    stored = edits.read(_edits_path(layers)) if edited is None else edited
    return {Origin.FILE: document, Origin.EDITED: stored, **layers}


def _edits_path(layers: Layers) -> Path:
    """It is known before what stands in it, and before anything is validated."""
    said = (layers[origin].get("server") for origin in (Origin.ENVIRONMENT, Origin.FILE))
    named = next((table["edits_file"] for table in said if isinstance(table, dict) and "edits_file" in table), None)
    return edits.location(named if isinstance(named, str) and named else None)


def _found_models(layers: Layers) -> Document:
    """Edits of models that no configuration names: a directory or a wheel may."""
    named = {name for origin in (Origin.FILE, Origin.ENVIRONMENT) for name in _models_of(layers[origin])}
    edited = _models_of(layers[Origin.EDITED])
    return {name: table for name, table in edited.items() if name not in named and "path" not in table}


def _models_of(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    models = layer.get("models")
    return models if isinstance(models, Mapping) else {}


def _validated(layers: Layers) -> Config:
    """Raises ConfigError, which names the file of edits where that is at fault."""
    found = _found_models(layers)
    models = {name: table for name, table in _models_of(layers[Origin.EDITED]).items() if name not in found}
    whole = {**layers, Origin.EDITED: edits.with_table(layers[Origin.EDITED], "models", models)}
    try:
        for name, table in found.items():
            Config.model_validate({"models": {name: {**table, "path": "any"}}})
        return _merged(whole)
    except ValidationError as error:
        edited = {path for path, origin in trace(layers).items() if origin is Origin.EDITED}
        raise ConfigError("\n".join(_explain(error, edited, _edits_path(layers)))) from error


def _merged(layers: Layers) -> Config:
    """Raises ValidationError."""
    weaker = (Origin.ENVIRONMENT, Origin.EDITED, Origin.FILE)

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
            return (init_settings, *(_Tables(settings_cls, dict(layers[origin])) for origin in weaker))

    return Loaded(**layers[Origin.FLAG])


class Source:
    """Where one gateway's configuration comes from, to be read again and again.

    `path` is the file that was found first. One that is gone later is a fault and not the end of all models; where
    there was none, one may appear. `origins` tells who has said what of the newest configuration; `found` are edits of
    models that it does not name, and `edits` is their file, where there can be one.
    """

    def __init__(self, explicit: Path | None = None, overrides: Mapping[str, Any] | None = None) -> None:
        self._explicit = explicit
        self._overrides = overrides
        self.path: Path | None = None
        self.edits: Path | None = None
        self.origins: Origins = {}
        self.found: Document = {}

    def load(self, edited: Document | None = None) -> Config:
        """With `edited` instead of the file of edits, if it is given. Raises ConfigError with one line per fault."""
        self.path = find_file(self.path or self._explicit)
        layers = _layers(read(self.path) if self.path else {}, self._overrides, edited)
        config = _validated(layers)
        self.edits = _edits_path(layers)
        secrets = {key: SecretFile(path) for key, path in secretfiles.files(os.environ).items()}
        self.origins, self.found = {**trace(layers), **secrets}, _found_models(layers)
        return config

    def signature(self) -> Signature:
        """Equal as long as the files are the same."""
        try:
            path = find_file(self.path or self._explicit)
        except (ConfigError, OSError):
            path = None
        return tuple(map(_version, (path, *secretfiles.files(os.environ).values()))), _version(self.edits)


class Fixed(Source):
    """A configuration that was made by hand, and never is another."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._config = config

    def load(self, edited: Document | None = None) -> Config:
        return self._config

    def signature(self) -> Signature:
        return (None,), None


class _Tables(PydanticBaseSettingsSource):
    """Nested tables, as they are.

    The library's own sources lower the names of an engine's variables, ask for JSON wherever a list is wanted, and
    take a file that is not there for an empty one.
    """

    def __init__(self, settings_cls: type[BaseSettings], tables: dict[str, Any]) -> None:
        super().__init__(settings_cls)
        self._tables = tables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("the tables are given as a whole")

    def __call__(self) -> dict[str, Any]:
        return self._tables


def _version(path: Path | None) -> Version:
    try:
        status = path.stat() if path else None
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns) if status else None


def _explain(error: ValidationError, edited: Collection[tuple[Any, ...]], file: Path) -> Iterator[str]:
    """A line for each fault; those in what is `edited` begin with its file."""
    for fault in error.errors(include_url=False):
        line = _line(fault)
        yield f"{file}: {line}" if any(_is_of(path, fault["loc"], line) for path in edited) else line


def _is_of(path: tuple[Any, ...], location: tuple[Any, ...], line: str) -> bool:
    """Whether an edited key may be at fault. A table's fault may be any of its keys'; the whole configuration's are
    names that are not unique, of which both owners are told, and a model owns its own where an edit made it."""
    if location:
        return location[: len(path)] == path or path[: len(location)] == location
    owner = ".".join(path[:-1] if path[-1] == "path" else path)
    return line.startswith(f"{owner}: ") or line.endswith(f" by {owner}")


def _line(fault: ErrorDetails) -> str:
    location = fault["loc"]
    where = ".".join(printable(part) for part in location if part != "[key]")
    match fault["type"]:
        case "extra_forbidden":
            return f"{where}: unknown key{nearest(str(location[-1]), keys_at(location[:-1]))}"
        case "missing":
            return f"{where}: must be set"
        case "value_error":
            return ": ".join(filter(None, (where, str(fault["ctx"]["error"]))))
        case "model_type" | "dict_type":
            return f"{where}: must be a table"
    if {"env", "api_key"} & set(location) or location[0] == "keys":
        return f"{where}: {fault['msg']}"
    return f"{where}: {fault['msg']}, not {fault['input']!r:.80}"
