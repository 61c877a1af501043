"""Changes of a configuration file's text that leave the rest of it as it is, comments included.

Pure: from text to text. Whether the result is a good configuration is not judged here, but that it says what was asked
for, and nothing else than before, is.
"""

import copy
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from llamaproxy.errors import ConfigError, InvalidRequest, NotFound

Path = tuple[str, ...]
Settings = Mapping[Path, Any]
"""Values by their path within a table: `("ctx_size",)`, or `("env", "CUDA_VISIBLE_DEVICES")`."""

_TABLES = ("env", "set_params")
"""Keys whose values are tables, and can be said one by one: `env.NAME=VALUE`."""


def settings(words: Iterable[str]) -> dict[Path, Any]:
    """From `KEY=VALUE`: a value that is TOML is that, any other is text. Raises InvalidRequest."""
    read: dict[Path, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InvalidRequest(f"{word!r:.80} is not KEY=VALUE, such as ctx_size=8192")
        path = key_path(key)
        read[path] = value if path[0] == "env" and len(path) > 1 else _value(value)
    return read


def key_path(key: str) -> Path:
    """`env.NAME` is a key in a table of its own."""
    table, dot, rest = key.partition(".")
    return (table, rest) if dot and table in _TABLES else (key,)


def add(text: str, table: Path, new: Settings) -> str:
    """With another table, at the end."""
    document = tomlkit.document()
    document.add(tomlkit.nl())
    _put(document, table, new)
    lines = tomlkit.dumps(document)
    # Text, because a table that is put into a document may end up in the middle of another one.
    return _checked(text.rstrip("\n") + "\n" + lines if text.strip() else lines.lstrip("\n"), text, table, new, ())


def change(text: str, table: Path, new: Settings, gone: Iterable[Path] = ()) -> str:
    """With other values in a table, and without those that are `gone`. Raises NotFound for one that is not there."""
    gone = tuple(gone)
    document = _parsed(text)
    try:
        _put(document, table, new)
        for path in gone:
            _drop(document, (*table, *path))
    except (TOMLKitError, TypeError, AttributeError) as error:
        raise _too_hard(table) from error
    return _checked(tomlkit.dumps(document), text, table, new, gone)


def remove(text: str, table: Path) -> str:
    """Without a table and everything in it. Raises NotFound."""
    document = _parsed(text)
    try:
        _drop(document, table)
    except (TOMLKitError, TypeError, AttributeError) as error:
        raise _too_hard(table) from error
    above, gone = table[:-1], (table[-1:],)
    try:
        return _checked(_cut(text, table), text, above, {}, gone)
    except ConfigError:
        return _checked(tomlkit.dumps(document), text, above, {}, gone)


def _parsed(text: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise ConfigError(f"the file cannot be edited: {error}") from error


def _put(document: Any, table: Path, new: Settings) -> None:
    for path, value in new.items():
        inner = document
        *above, key = (*table, *path)
        for part in above:
            if part not in inner:
                inner[part] = tomlkit.table()
            inner = inner[part]
        inner[key] = value


def _drop(document: Any, path: Path) -> None:
    inner = document
    for part in path[:-1]:
        inner = inner.get(part, {})
    if path[-1] not in inner:
        raise NotFound(f"there is no {'.'.join(path)} in the file")
    del inner[path[-1]]


def _cut(text: str, table: Path) -> str:
    """Line by line: the library takes the comment above the next table for the end of this one.

    A table whose values have lines that look like headers comes out wrong, which is seen afterwards.
    """
    kept: list[str] = []
    held: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        if header := _header(line):
            kept += _of_the_next(held)
            held, inside = [], header[: len(table)] == table
        if not inside:
            kept.append(line)
        elif not line.strip() or line.lstrip().startswith("#"):
            held.append(line)
        else:
            held = []
    return "".join([*kept, *_of_the_next(held)])


def _of_the_next(comments: list[str]) -> list[str]:
    """What follows a blank line is no more about the table before."""
    blank = next((at for at, line in enumerate(comments) if not line.strip()), len(comments))
    return comments[blank:]


def _header(line: str) -> Path:
    """The path of a table that begins here; nothing where none does."""
    if not line.lstrip().startswith("["):
        return ()
    path: list[str] = []
    try:
        inner = tomllib.loads(line)
    except ValueError:
        return ()
    while inner:
        (key, value), *_ = inner.items()
        path.append(key)
        inner = value if isinstance(value, dict) else {}
    return tuple(path)


def _value(text: str) -> Any:
    """A line break would begin another key."""
    if "\n" in text or "\r" in text:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _checked(text: str, before: str, table: Path, new: Settings, gone: Iterable[Path]) -> str:
    """The library that keeps comments has gone wrong before on tables that are scattered over a file."""
    wanted = copy.deepcopy(tomllib.loads(before))
    _put_plainly(wanted, table, new)
    for path in gone:
        _drop(wanted, (*table, *path))
    try:
        found = tomllib.loads(text)
    except ValueError as error:
        raise _too_hard(table) from error
    if _without_empty(found) != _without_empty(wanted):
        raise _too_hard(table)
    return text


def _put_plainly(tables: dict[str, Any], table: Path, new: Settings) -> None:
    for path, value in new.items():
        inner: Any = tables
        *above, key = (*table, *path)
        for part in above:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise _too_hard(table)
        inner[key] = value


def _without_empty(tables: dict[str, Any]) -> dict[str, Any]:
    """A table whose last key is gone may be gone, too."""
    kept = {key: _without_empty(value) if isinstance(value, dict) else value for key, value in tables.items()}
    return {key: value for key, value in kept.items() if value != {}}


def _too_hard(table: Path) -> ConfigError:
    return ConfigError(f"[{'.'.join(table)}] is written in a way that cannot be edited here: change it by hand")
