"""The configuration as it can be shown: secrets masked, and where each value comes from.

Pure. Owns what counts as a secret, and the names of origins. What the keys mean stands in `config`; precedence is
`configfile`'s.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from os import PathLike
from typing import Any

from llamaproxy.config import Config

_SECRET = re.compile(r"key|token|secret|passw|passphrase|credential|auth", re.IGNORECASE)
_SECRET_FLAG = re.compile(r"(-hft|--(?:[a-z-]+-)?(?:api-key|token|secret|password))(=.*)?", re.IGNORECASE | re.DOTALL)
_LOGIN = re.compile(r"(://)[^\s/@\"']{1,512}@")

Path = tuple[str, ...]


class Origin(StrEnum):
    """Where a value comes from: the later goes before the earlier. EDITED was changed over HTTP, and is kept; RUNTIME
    lasts until the next reload."""

    DEFAULT = "default"
    FOUND = "found"
    FILE = "file"
    EDITED = "edited"
    ENVIRONMENT = "environment"
    FLAG = "flag"
    RUNTIME = "runtime"


@dataclass(frozen=True)
class SecretFile:
    """The file that a variable names instead of saying the value: as strong as the environment."""

    path: PathLike[str]

    @property
    def value(self) -> str:
        return f"file {self.path}"


Origins = Mapping[Path, Origin | SecretFile]
"""By the path of a key, such as `("server", "port")`, or of a table all of which comes from one place."""


def effective(config: Config) -> dict[str, Any]:
    """Every value, secrets masked: variables and arguments that are named like one, and keys."""
    values = config.model_dump(mode="json", exclude={"models"})
    _mask_process(values["engine"])
    values["models"] = {name: model_values(model.model_dump(mode="json")) for name, model in config.models.items()}
    for key in values["keys"].values():
        key["sha256"] = key["sha256"][:6] + "..."
    return {section: values[section] for section in type(config).model_fields}


def model_values(model: dict[str, Any]) -> dict[str, Any]:
    """The same of one model, from what pydantic dumps as JSON."""
    _mask_process(model)
    model["api_key"] = model["api_key"] and "***"
    model["command"] = model["command"] and list(_masked(model["command"]))
    return model


def trace(layers: Mapping[Origin, Mapping[str, Any]]) -> dict[Path, Origin]:
    """Who has said what; later layers go before earlier ones."""
    return {path: origin for origin, table in layers.items() for path in _leaves(table)}


def shown_origins(values: Mapping[str, Any], origins: Origins, above: Path = ()) -> dict[str, Any]:
    """The origin of every value, in the shape of the values."""
    shown: dict[str, Any] = {}
    for key, value in values.items():
        path = (*above, key)
        if isinstance(value, Mapping):
            shown[key] = shown_origins(value, origins, path)
        else:
            shown[key] = _origin(path, origins).value
    return shown


def _origin(path: Path, origins: Origins) -> Origin | SecretFile:
    """Its own, or that of the table it came in as a whole."""
    known = (origins[path[:length]] for length in range(len(path), 0, -1) if path[:length] in origins)
    return next(known, Origin.DEFAULT)


def _leaves(table: Mapping[str, Any], above: Path = ()) -> Iterator[Path]:
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key)


def _mask_process(section: dict[str, Any]) -> None:
    section["env"] = {name: "***" if _SECRET.search(name) else value for name, value in section["env"].items()}
    section["args"] = list(_masked(section["args"]))


def _masked(args: Iterable[str]) -> Iterator[str]:
    """Where engine.allow_unsafe_args is set, a secret may stand in its flag's argument or in the next one; a name and a
    password may stand in any address."""
    hidden = False
    for argument in args:
        match = _SECRET_FLAG.fullmatch(argument)
        if match and match[2]:
            yield f"{match[1]}=***"
        else:
            yield "***" if hidden else _LOGIN.sub(r"\1***@", argument)
        hidden = bool(match and not match[2])
