"""What is changed over HTTP and kept: a layer of configuration between file and environment.

Owns which keys may be in it, one list for what HTTP may change and for what is believed of the file, and how the file
is spelled. Nothing in it can name a binary, a command, an argument, a variable, a host, a port (whoever looks for the
gateway reads file and environment only), a key, or a place of ours to write to. Only the path of a model comes from it,
of whose place `server.modelfiles` has made sure. Must not decide who wins over whom: `configfile` does.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from llamaproxy import document as files
from llamaproxy import toml
from llamaproxy.config import LISTENERS, BreakerConfig, LimitsConfig
from llamaproxy.effective import Origin, Origins
from llamaproxy.errors import ConfigError, Conflict
from llamaproxy.modelconfig import MEANINGLESS
from llamaproxy.statefile import state_directory

Document = Mapping[str, Mapping[str, Any]]
"""Tables as in the configuration file, with typed values."""

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "server": ("max_body", "body_timeout", "drain_timeout"),
    "engine": ("start_timeout", "stop_timeout", "first_byte_timeout", "idle_timeout"),
    "limits": tuple(LimitsConfig.model_fields),
    "breaker": tuple(BreakerConfig.model_fields),
    "catalog": ("bundled",),
    "kv": ("carry", "cache_bytes", "save_timeout", "restore_timeout"),
    "telemetry": ("metrics_interval", "retention", "retention_bytes", "log_level", "log_format"),
}
MODEL: tuple[str, ...] = (
    *("aliases", "description", "unlisted"),
    *("ctx_size", "batch_size", "threads", "gpu_layers", "parallel", "kv_carry"),
    *("ttl", "pinned", "preload", "priority", "concurrency", "queue_size"),
)
RESTART = tuple(("server", key) for key in ("host", *LISTENERS))
"""What a running gateway does not take over."""
MOST_MODELS = 1000
_OF_CREATED = ("path", "mmproj")
"""Of models that were made over HTTP; no client says them as such."""
_STRONGER = (Origin.ENVIRONMENT, Origin.FLAG)
_FILE = "edits.toml"


def location(named: str | None) -> Path:
    """Where `server.edits_file` says, else beside the database's own place."""
    return Path(named).expanduser() if named else state_directory() / _FILE


def read(path: Path) -> Document:
    """No file is no edits. Raises ConfigError where it is there and no good, which names file and keys."""
    if not _is_there(path):
        return {}
    document = files.read(path)
    if faults := [f"{path}: {fault}" for fault in _faults(document)]:
        raise ConfigError("\n".join(faults))
    return document


def _is_there(path: Path) -> bool:
    """Raises ConfigError where that cannot be known: edits that are kept must not be left out in silence."""
    try:
        path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        # A path with a NUL is told of by whoever validates the key.
        return False
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; server.edits_file names another place") from error
    return True


def text(document: Document) -> str:
    """The document as the file has it."""
    sections = ((name, values) for name, values in document.items() if name != "models")
    models = ((f"models.{toml.key(name)}", values) for name, values in document.get("models", {}).items())
    lines = chain.from_iterable(toml.table(name, values) for name, values in chain(sections, models))
    return "\n".join(["# Written by llamaproxy: what was changed over HTTP.", "", *lines])


def changed(table: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The table with these values; None takes one back."""
    return {key: value for key, value in {**table, **values}.items() if value is not None}


def with_table(document: Mapping[str, Any], name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """The document with this table, or without one of that name where it is empty."""
    others = {other: content for other, content in document.items() if other != name}
    return {**others, name: table} if table else others


def with_model(document: Document, name: str, table: Mapping[str, Any]) -> Document:
    return with_table(document, "models", with_table(document.get("models", {}), name, table))


def check_free(above: tuple[str, ...], values: Mapping[str, Any], origins: Origins) -> None:
    """Raises Conflict where somebody stronger says a value, and names who."""
    for key in (key for key, value in values.items() if value is not None):
        path = (*above, key)
        origin = origins.get(path)
        if origin is Origin.ENVIRONMENT:
            variable = "LLAMAPROXY_" + "__".join(path).upper()
            raise Conflict(f"{'.'.join(path)} is fixed by the environment ({variable})", param=".".join(path))
        if origin is Origin.FLAG:
            raise Conflict(f"{'.'.join(path)} is fixed by the flag --{key}", param=".".join(path))


def editable(values: Mapping[str, Any], origins: Origins) -> dict[str, Any]:
    """Whether each value of the configuration can be edited, in the shape of the sections."""
    shown: dict[str, Any] = {
        section: _editable(table, SECTIONS.get(section, ()), (section,), origins)
        for section, table in values.items()
        if section not in ("models", "keys")
    }
    shown["models"] = {name: editable_model(name, model, origins) for name, model in values["models"].items()}
    shown["keys"] = {name: dict.fromkeys(key, False) for name, key in values["keys"].items()}
    return {section: shown[section] for section in values}


def editable_model(name: str, values: Mapping[str, Any], origins: Origins) -> dict[str, bool]:
    """The same of one model; what would do nothing for it cannot be edited."""
    kind = next(kind for kind in MEANINGLESS if values[kind] is not None)
    allowed = [key for key in MODEL if key not in MEANINGLESS[kind]]
    return _editable(values, allowed, ("models", name), origins)


def _editable(
    values: Mapping[str, Any], allowed: Collection[str], above: tuple[str, ...], origins: Origins
) -> dict[str, bool]:
    return {key: key in allowed and origins.get((*above, key)) not in _STRONGER for key in values}


def _faults(document: Mapping[str, Any]) -> Iterator[str]:
    for section, table in document.items():
        allowed = SECTIONS.get(section)
        if not isinstance(table, Mapping):
            yield f"{_shown(section)}: must be a table"
        elif section == "models":
            yield from _model_faults(table)
        elif allowed is None:
            yield f"{_shown(section)}: nothing of it can be edited"
        else:
            yield from (f"{section}.{_shown(key)}: cannot be edited" for key in table if key not in allowed)


def _model_faults(models: Mapping[str, Any]) -> Iterator[str]:
    for name, table in models.items():
        if not isinstance(table, Mapping):
            yield f"models.{_shown(name)}: must be a table"
        else:
            wrong = (key for key in table if key not in (*MODEL, *_OF_CREATED))
            yield from (f"models.{_shown(name)}.{_shown(key)}: cannot be edited" for key in wrong)


def _shown(name: str) -> str:
    return f"{name if name.isprintable() else ascii(name)[1:-1]:.130}"
