"""Secrets that stand in files of their own: `LLAMAPROXY_..._FILE` names one, as containers are told.

Owns which variables may be said so, and what such a file may be. Knows no other key, and says nothing of what a file
holds. Light, so that the verbs that only ask a gateway can use it.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from llamaproxy.errors import ConfigError

SUFFIX = "_FILE"
SECRETS = (("models", "api_key"), ("keys", "sha256"))
"""Section and key; between them stands a name. The variables of an engine are not among them: many of its own end in
_FILE."""
LARGEST = 64 * 1024
"""Bytes."""
_PREFIX = "LLAMAPROXY_"


def filled(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with every secret as if its variable held it. Raises ConfigError with one line per fault."""
    named = _named(environ)
    told = {name: value for name, value in environ.items() if name not in named.values()}
    faults: list[str] = []
    for variable in named:
        try:
            told[variable] = secret(environ, variable) or ""
        except ConfigError as error:
            faults.append(error.message)
    if faults:
        raise ConfigError("\n".join(faults))
    return told


def files(environ: Mapping[str, str]) -> dict[tuple[str, ...], Path]:
    """The file of each value that stands in one, by the path of its key."""
    return {_key(variable): Path(environ[name]) for variable, name in _named(environ).items() if environ[name]}


def secret(environ: Mapping[str, str], variable: str) -> str | None:
    """What it holds, or the file that its other spelling names; empty ones count as unset. Raises ConfigError."""
    path = environ.get(variable + SUFFIX)
    if not path:
        return environ.get(variable) or None
    if environ.get(variable):
        raise ConfigError(f"{variable} and {variable}{SUFFIX} are both set; one of them has to go")
    try:
        return _content(Path(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{variable}{SUFFIX}: {path}: {getattr(error, 'strerror', None) or error}") from error


def _named(environ: Mapping[str, str]) -> dict[str, str]:
    """The variable of each secret for which a file may be named, and the variable that names it."""
    spelled = ((name.removesuffix(SUFFIX), name) for name in environ if name.endswith(SUFFIX))
    return {variable: name for variable, name in spelled if variable.startswith(_PREFIX) and _is_secret(_key(variable))}


def _key(variable: str) -> tuple[str, ...]:
    return tuple(part.lower() for part in variable.removeprefix(_PREFIX).split("__"))


def _is_secret(path: tuple[str, ...]) -> bool:
    return len(path) == 3 and (path[0], path[2]) in SECRETS


def _content(path: Path) -> str:
    """Without the line end that editors put there. Raises OSError, or ValueError for what holds no secret."""
    # A pipe that nobody writes to would hold everything up.
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a regular file")
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"larger than {LARGEST // 1024} KiB")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if not (told := text.removesuffix("\n").removesuffix("\r")):
        raise ValueError("empty")
    return told
