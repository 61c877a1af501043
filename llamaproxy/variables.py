"""The environment's variables as tables, and the names that are valid in each table.

Owns how a variable is spelled, which of them are ours, and what was probably meant by a name that there is not. Whose
word counts is `configfile`'s business; the keys themselves stand in `config`.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from llamaproxy.config import Config, KeyConfig
from llamaproxy.document import FILE_VARIABLE
from llamaproxy.modelconfig import ModelConfig

PREFIX = "LLAMAPROXY_"
_NOT_SETTINGS = {FILE_VARIABLE, "LLAMAPROXY_URL", "LLAMAPROXY_API_KEY", "LLAMAPROXY_API_KEY_FILE"}
_TABLES: dict[str, type[BaseModel]] = {"models": ModelConfig, "keys": KeyConfig}
_CLOSE = 0.65
"""Likeness, of 1, from which on a name may be a mistyped other one."""

# Kubernetes tells every container where a service named `llamaproxy` is. Source: its documentation, "Discovering
# services", environment variables.
_SERVICE_LINK = re.compile(
    r"LLAMAPROXY_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)=|LLAMAPROXY_PORT=\w+://"
)


def printable(part: object) -> str:
    """A name from outside, fit for one line on a terminal."""
    text = str(part)
    return f"{text if text.isprintable() else ascii(text)[1:-1]:.130}"


def nested(environ: Mapping[str, str]) -> dict[str, Any]:
    """Our variables as tables; empty ones count as unset."""
    tables: dict[str, Any] = {}
    for variable in _own(environ):
        if value := environ[variable]:
            *sections, key = _path(variable)
            table = tables
            for section in sections:
                table = table.setdefault(section, {})
            table[key] = value
    return tables


def _own(environ: Mapping[str, str]) -> Iterator[str]:
    for variable, value in environ.items():
        ours = variable.startswith(PREFIX) and variable not in _NOT_SETTINGS
        if ours and not _SERVICE_LINK.match(f"{variable}={value}"):
            yield variable


def _path(variable: str) -> tuple[str, ...]:
    """Tables and key in lower case; the names of an engine's variables stay as they are."""
    parts = variable.removeprefix(PREFIX).split("__")
    lowered = tuple(part.lower() for part in parts)
    for depth in (2, 3):
        if len(parts) > depth and _is_environment(lowered[:depth]):
            return (*lowered[:depth], "__".join(parts[depth:]))
    return lowered


def unknown(environ: Mapping[str, str]) -> Iterator[str]:
    """A line for each of ours that says nothing."""
    for variable in _own(environ):
        path = _path(variable)
        wrong = next((depth for depth, part in enumerate(path) if not _is_valid(path[:depth], part)), None)
        if wrong is not None:
            yield f"{printable(variable)}: unknown setting{_nearest_variable(path, wrong)}"
        elif _is_free(path) or keys_at(path):
            yield f"{printable(variable)}: {path[-1]} is a section; set {printable(variable)}__KEY"


def _is_valid(table: tuple[str, ...], key: str) -> bool:
    return _is_free(table) or key in keys_at(table)


def _nearest_variable(path: tuple[str, ...], wrong: int) -> str:
    valid = keys_at(path[:wrong])
    meant = {name: (*path[:wrong], name, *path[wrong + 1 :]) for name in valid}
    if len(path) == 1:
        # One underscore for two, or no section at all: likelier than a typing error.
        paths = [(section, key) for section in valid for key in keys_at((section,))]
        meant = {spelled: path for path in paths for spelled in (path[-1], "_".join(path))}
    if close := difflib.get_close_matches(path[wrong], meant, n=1, cutoff=_CLOSE):
        return f", did you mean {PREFIX}{'__'.join(meant[close[0]]).upper()}?"
    return f"; valid here: {', '.join(valid)}" if valid else ""


def nearest(name: str, valid: list[str]) -> str:
    """What to add to a sentence about a name that is not valid."""
    close = difflib.get_close_matches(name.lower(), valid, n=1, cutoff=_CLOSE)
    return f", did you mean {close[0]}?" if close else f"; valid here: {', '.join(valid)}"


def keys_at(location: tuple[Any, ...]) -> list[str]:
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
    return location in {("models",), ("keys",)} or _is_environment(location)


def _is_environment(location: tuple[str, ...]) -> bool:
    match location:
        case ("engine", "env") | ("models", _, "env"):
            return True
        case _:
            return False
