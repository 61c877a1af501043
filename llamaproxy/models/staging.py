"""Where pulls gather a model: `.pulling/NAME/`, one process at a time, and its end where nobody goes on with it.

Owns the folder, its locks, and how long what is in it is kept. What is gathered there is `pull`'s.
"""

import contextlib
import logging
import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llamaproxy.errors import Conflict, GatewayError

log = logging.getLogger(__name__)

STAGING = ".pulling"
KEPT = 7 * 86400.0
"""Seconds since anything of it was written."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What there is of a model; `written_at` in seconds since the epoch."""

    folder: Path
    size: int
    written_at: float


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Among processes. The lock stays behind: who removed it could let two in. Raises Conflict."""
    path = folder.with_name(f"{folder.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise GatewayError(f"{path.parent} cannot be written: {error.strerror}") from error
    try:
        _lock(fd, folder.name)
        yield
    finally:
        os.close(fd)


def unfinished(directory: Path) -> list[Unfinished]:
    """What lies there, by name; nothing where nobody may look. Blocks on the disk."""
    try:
        folders = sorted(path for path in (directory / STAGING).iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return []
    return [_look(folder) for folder in folders]


def sweep(directory: Path) -> None:
    """Remove what nobody has gone on with for so long, and say what is free by that. Blocks on the disk."""
    now = time.time()
    for found in unfinished(directory):
        if found.written_at + KEPT > now:
            continue
        try:
            with locked(found.folder):
                if _look(found.folder) == found:
                    shutil.rmtree(found.folder)
        except Conflict:
            continue
        except (GatewayError, OSError) as error:
            log.warning("%s was not finished, and cannot be removed: %s", found.folder, error)
        else:
            days = (now - found.written_at) / 86400
            log.info("%s: nobody went on with it for %d days; %d bytes are free again", found.folder, days, found.size)


def _look(folder: Path) -> Unfinished:
    """Links are not followed; what goes away meanwhile does not count."""
    size, newest = 0, 0.0
    for parent, _, names in os.walk(folder):
        for path in (Path(parent), *(Path(parent, name) for name in names)):
            with contextlib.suppress(OSError):
                told = path.lstat()
                newest = max(newest, told.st_mtime)
                size += told.st_size if stat.S_ISREG(told.st_mode) else 0
    return Unfinished(folder, size, newest)


def _lock(fd: int, name: str) -> None:
    try:
        import fcntl
    except ImportError:  # on Windows, where the second one fails at its first file
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise Conflict(f"{name} is being pulled already") from error
