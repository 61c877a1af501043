"""The files of saved slots: a bounded store on disk.

Owns a 0700 directory with one folder for each key, and in it the slots of one save, the newest first. Nothing here
knows what is in the files, and nobody asks for one by name: several gateways may share the directory, so that a file
may be gone at any time, which costs a restore and nothing else.

What an engine writes is a draft until the save is complete. What a gateway that was killed left half done goes later.
"""

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llamaproxy.backends.orphans import check_ours

_SAVED = ".kv"
_DRAFT = ".part"
_OFF = "off"
_KEY = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}")
_NAME = re.compile(r"(\d{20}-[0-9a-f]{8})-(\d{3})")
_LONGEST_REASON = 500
_STALE = 3600.0
"""Seconds after which nobody is still writing a draft, or about to write into an empty folder."""
_RESERVE = 1024**3
"""Bytes of the disk that are left to others; on a small disk it is a twentieth of it."""


@dataclass(frozen=True, slots=True, order=True)
class SlotFile:
    """One saved slot. `save` names the save, later ones sort later; `rank` is 0 for the slot that was used last."""

    save: str
    rank: int
    path: Path
    size: int


class SlotFiles:
    """The store. Raises OSError when it is made where its directory cannot be used."""

    def __init__(self, directory: Path, limit: int) -> None:
        """`limit` in bytes."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_ours(directory)
        if directory.stat().st_mode & 0o077:
            # Not made so here: it may be a directory that others have a right to.
            raise PermissionError(f"{directory} is open to other users: it must have mode 0700")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(f"{directory} cannot be written to")
        self._directory = directory
        self._limit = limit

    def folder(self, key: str) -> Path:
        """The folder of a key: owner and version, of 16 hex digits each, with a dash between them.

        Made where it is missing, and safe for a while from being tidied up. Raises OSError.
        """
        folder = self._directory / key
        folder.mkdir(mode=0o700, exist_ok=True)
        check_ours(folder)
        os.utime(folder)
        return folder

    def saved(self, key: str) -> list[SlotFile]:
        """The slots of the newest save, in order of rank."""
        return _newest_save(sorted(_files(self._directory / key)))

    def new_save(self, key: str) -> str:
        """A name that no other save has, not even another gateway's, and later than what is there: clocks are set."""
        latest = max((_written(file) for file in _files(self._directory / key)), default=0)
        return f"{max(time.time_ns(), latest + 1):020d}-{secrets.token_hex(4)}"

    def keep(self, drafts: Iterable[Path]) -> None:
        """End a save: from now on these are the newest of their folder. Raises OSError."""
        for draft in drafts:
            draft.chmod(0o600)
            draft.rename(draft.with_suffix(_SAVED))

    def has_room(self, expected: int) -> bool:
        """Whether so many bytes more would leave the disk enough. Raises OSError."""
        disk = shutil.disk_usage(self._directory)
        return expected <= self._limit and disk.free - expected >= min(_RESERVE, disk.total // 20)

    def tidy(self) -> None:
        """Remove what a newer save has replaced, the oldest beyond the limit, and what was left behind.

        Of one save those of the highest rank go first.
        """
        folders = [path for path in self._directory.iterdir() if _KEY.fullmatch(path.name) and path.is_dir()]
        kept = 0
        for file in sorted((file for folder in folders for file in _drop_replaced(folder)), key=_newest_first):
            kept += file.size
            if kept > self._limit:
                file.path.unlink(missing_ok=True)
        for folder in folders:
            remove(path for path in folder.glob(f"*{_DRAFT}") if _NAME.fullmatch(path.stem) and _is_stale(path))
            if _is_stale(folder):
                with contextlib.suppress(OSError):  # not empty, or another gateway was faster
                    folder.rmdir()

    def off(self, key: str) -> str | None:
        """Why nothing is kept under this key, if that is so."""
        with contextlib.suppress(OSError):
            return (self._directory / key / _OFF).read_text("utf-8", "replace")[:_LONGEST_REASON]
        return None

    def switch_off(self, key: str, reason: str) -> None:
        """Remove what is kept under a key, and remember that it is in vain. Raises OSError."""
        folder = self.folder(key)
        remove(file.path for file in _files(folder))
        (folder / _OFF).write_text(reason, "utf-8")

    def forget(self, prefix: str) -> None:
        """Remove every key that begins so."""
        for folder in self._directory.glob(f"{prefix}*"):
            shutil.rmtree(folder, ignore_errors=True)


def draft_name(save: str, rank: int) -> str:
    """The file an engine writes slot `rank` of a save to."""
    return f"{save}-{rank:03d}{_DRAFT}"


def remove(paths: Iterable[Path]) -> None:
    """Raises OSError, but not for what is gone already."""
    for path in paths:
        path.unlink(missing_ok=True)


def _files(folder: Path) -> Iterator[SlotFile]:
    for path in folder.glob(f"*{_SAVED}"):
        if name := _NAME.fullmatch(path.stem):
            with contextlib.suppress(OSError):  # gone meanwhile
                yield SlotFile(name[1], int(name[2]), path, path.stat().st_size)


def _newest_first(file: SlotFile) -> tuple[int, int]:
    return -_written(file), file.rank


def _written(file: SlotFile) -> int:
    """When, in nanoseconds since the epoch."""
    return int(file.save[:20])


def _drop_replaced(folder: Path) -> list[SlotFile]:
    """The newest save of a folder, once it is alone there."""
    files = sorted(_files(folder))
    newest = _newest_save(files)
    remove(file.path for file in files if file not in newest)
    return newest


def _newest_save(files: list[SlotFile]) -> list[SlotFile]:
    return [file for file in files if file.save == files[-1].save]


def _is_stale(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _STALE
    except OSError:
        return False
