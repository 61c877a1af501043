"""`llamaproxy config`: what is configured, where it comes from, and changes of the file.

A file is changed only where the result can be served: it is judged as `serve` would, written beside its place and
renamed, with its mode and owner kept. What the text becomes is decided in `editing`.
"""

import argparse
import difflib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from llamaproxy import configfile, document
from llamaproxy.cli import (
    EXIT_CONFIGURATION,
    EXIT_CONFLICT,
    EXIT_NOT_FOUND,
    EXIT_USAGE,
    complain,
    editing,
    terminal,
)
from llamaproxy.cli.table import harmless, table
from llamaproxy.config import Config
from llamaproxy.effective import effective, shown_origins
from llamaproxy.errors import ConfigError, InvalidRequest, NotFound
from llamaproxy.server.gateway import check

_BARE = re.compile(r"[A-Za-z0-9_-]+")
"""Keys that TOML takes without quotes."""
_CODES = {ConfigError: EXIT_CONFIGURATION, NotFound: EXIT_NOT_FOUND, InvalidRequest: EXIT_USAGE}


def run(arguments: argparse.Namespace) -> int:
    """stdout is data; what was done is said on stderr."""
    actions = {"show": _show, "list": _list, "add": _add, "update": _update, "remove": _remove}
    try:
        return actions[arguments.action](arguments)
    except (ConfigError, NotFound, InvalidRequest) as error:
        complain(error.message)
        return _CODES[type(error)]


def _show(arguments: argparse.Namespace) -> int:
    source = configfile.Source(arguments.config)
    values = effective(source.load())
    origins = shown_origins(values, source.origins)
    if arguments.json:
        shown = {"file": source.path and str(source.path), "config": values}
        terminal.print_json({**shown, "origins": origins} if arguments.origin else shown)
        return 0
    lines = [f"{key} = {_toml(value)}" for key, value in _leaves(values)]
    if arguments.origin:
        told = [origin or "default" for _, origin in _leaves(origins)]
        room = (terminal.width() or sys.maxsize) - max(map(len, told)) - len("  # ")
        width = max((len(line) for line in lines if len(line) <= room), default=0)
        lines = [f"{line.ljust(width)}  # {origin}" for line, origin in zip(lines, told, strict=True)]
    print("\n".join(map(harmless, lines)))
    return 0


def _list(arguments: argparse.Namespace) -> int:
    config = configfile.load(document.find_file(arguments.config))
    if arguments.json:
        models = effective(config)["models"]
        terminal.print_json({"models": [{"name": name, **values} for name, values in models.items()]})
        return 0
    rows = [
        (name, model.kind, model.port, ",".join(model.aliases), _served_by(model.path, model.command, model.url))
        for name, model in config.models.items()
    ]
    print(table(("NAME", "MODE", "PORT", "ALIASES", "SERVED BY"), rows, terminal.width()))
    return 0


def _served_by(path: str | None, command: tuple[str, ...] | None, url: str | None) -> str | None:
    return path or url or (command[0] if command else None)


def _has(text: str, path: Path, model: str) -> bool:
    """Nothing is judged here: `models` may be no table at all."""
    models = document.parse(text, path).get("models")
    return isinstance(models, dict) and model in models


def _add(arguments: argparse.Namespace) -> int:
    path, text = _file(arguments)
    if _has(text, path, arguments.name):
        complain(f"there is a model {arguments.name!r:.140} already; `llamaproxy config update` changes it")
        return EXIT_CONFLICT
    new = editing.settings(arguments.settings)
    return _save(arguments, path, text, editing.add(text, ("models", arguments.name), new))


def _update(arguments: argparse.Namespace) -> int:
    path, text = _file(arguments)
    new, gone = editing.settings(arguments.settings), map(editing.key_path, arguments.unset)
    if not new and not arguments.unset:
        raise InvalidRequest("nothing to change: say KEY=VALUE, or --unset KEY")
    if arguments.section:
        if arguments.name not in Config.model_fields or arguments.name in ("models", "keys"):
            raise NotFound(f"there is no section {arguments.name!r:.80}")
        return _save(arguments, path, text, editing.change(text, (arguments.name,), new, gone))
    if not _has(text, path, arguments.name):
        raise NotFound(f"there is no model {arguments.name!r:.140} in {path}")
    return _save(arguments, path, text, editing.change(text, ("models", arguments.name), new, gone))


def _remove(arguments: argparse.Namespace) -> int:
    path, text = _file(arguments)
    return _save(arguments, path, text, editing.remove(text, ("models", arguments.name)))


def _file(arguments: argparse.Namespace) -> tuple[Path, str]:
    """The file itself, not a link to it. Raises ConfigError."""
    found = document.find_file(arguments.config)
    if found is None:
        raise ConfigError("there is no configuration file; `llamaproxy init` writes one")
    document.read(found)
    path = Path(os.path.realpath(found))
    return path, path.read_bytes().decode("utf-8-sig")


def _save(arguments: argparse.Namespace, path: Path, old: str, new: str) -> int:
    check(configfile.judge(document.parse(new, path)))
    if arguments.dry_run:
        lines = difflib.unified_diff(old.splitlines(), new.splitlines(), str(path), str(path), lineterm="")
        print("\n".join(map(harmless, lines)))
        return 0
    _write(path, new)
    complain(f"wrote {path}; a running gateway takes it over by itself")
    return 0


def _write(path: Path, text: str) -> None:
    """Whole at any moment, with mode and owner as before."""
    status = path.stat()
    fd, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(fd)
            if hasattr(os, "fchown"):
                if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(fd, status.st_uid, status.st_gid)
                os.fchmod(fd, status.st_mode & 0o7777)
        os.replace(draft, path)
    except BaseException:  # a draft is of no use to anybody, whatever cut it off
        with suppress(FileNotFoundError):
            os.unlink(draft)
        raise


def _leaves(values: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*above, key))
        else:
            yield ".".join(part if _BARE.fullmatch(part) else json.dumps(part) for part in (*above, key)), value


def _toml(value: Any) -> str:
    """These values are spelled in TOML as in JSON; what is unset has no spelling."""
    return "unset" if value is None else json.dumps(value, ensure_ascii=False)
