"""The journal: rows that outlive a gateway which is killed before they are in the database.

Owns a file beside the database with a slot for each row that a client may have the answer of and the database has not.
A slot is written before anything of the answer goes out, into memory that is the file's: the kernel keeps it whatever
becomes of this process; after a loss of power it may be incomplete, as may the answers have been. When the row is
committed the slot is free for another: what it says until then is in the database already, where the same row is never
put twice. Must not raise on the way of a request: where it cannot write, rows are kept in memory only.

The file is locked as long as its gateway lives. One that is not is left behind by a killed gateway, and the next one
takes over what it says.
"""

import errno
import logging
import mmap
import os
import secrets
import sys
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

from llamaproxy.telemetry.ledger import RequestRow, RequestState, stored
from llamaproxy.telemetry.schema import COLUMNS

if sys.platform != "win32":
    import fcntl

log = logging.getLogger(__name__)

SLOT = 1024
"""Bytes: the texts of a row are names of 128 characters at most, three of them, and short words."""
_STEP = 62 * SLOT
"""Bytes that the file grows by: to 64 KiB at first."""
_MOST_BYTES = 64 * 1024**2
"""What is read of a file that was left behind: more than the rows that may wait."""
_END = b"\n"
_TAKEN, _EMPTY = b" \n"
"""What a slot begins with: after the blank comes a row, after the end of the line something that is none any more."""
_FINAL = frozenset(RequestState) - {RequestState.IN_FLIGHT}
_AVAILABLE = hasattr(os, "pwrite") and sys.platform != "win32"

Values = tuple[Any, ...]


class Journal:
    """This process's file; does nothing until it is opened. `run` is a number that no other process has."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self.run = secrets.randbits(63)
        self._fd = -1
        self._path = _prefixed(database, f"{self.run:016x}")
        self._memory = mmap.mmap(-1, SLOT)
        self._size = 0
        self._free: list[int] = []
        self._spare = SLOT
        self._complete: set[int] = set()
        self._failed = False

    def open(self) -> None:
        """Raises OSError. The first slot says what the others hold, so that a later release can read them; the second
        one is the spare.
        """
        if self._fd >= 0 or not _AVAILABLE:
            return
        draft = self._path.with_suffix(".draft")
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._size = os.pwrite(fd, (orjson.dumps(COLUMNS) + _END).ljust(2 * SLOT, _END), 0)
            draft.rename(self._path)
        except OSError:
            os.close(fd)
            draft.unlink(missing_ok=True)
            raise
        self._fd = fd

    def mark(self, row: RequestRow) -> None:
        """Write a row as it is now. What was written of it before is there until then."""
        if self._fd < 0:
            return
        try:
            if row.slot >= 0:
                self._write(self._spare, row)
                self._memory[row.slot] = _EMPTY
                row.slot, self._spare = self._spare, row.slot
            else:
                if not self._free:
                    self._grow()
                self._write(self._free[-1], row)
                row.slot = self._free.pop()
            self._failed = False
        except (OSError, orjson.JSONEncodeError) as error:
            self._complain(error)

    def keep(self, rows: Iterable[RequestRow]) -> None:
        """These are complete and have to wait for the database: not even how they ended may be forgotten."""
        self._complete.discard(-1)
        for row in rows if self._fd >= 0 else ():
            # Where there was no room for one that has no slot, it is not looked for again for each of the others.
            if row.slot not in self._complete:
                self.mark(row)
                self._complete.add(row.slot)

    def release(self, rows: Sequence[RequestRow]) -> None:
        """The database has them."""
        slots = [row.slot for row in rows if row.slot >= 0]
        self._free += slots
        self._complete.difference_update(slots)
        for row in rows:
            row.slot = -1

    def forget(self, row: RequestRow) -> None:
        """Nobody will have it."""
        if row.slot >= 0:
            self._memory[row.slot] = _EMPTY
        self.release([row])

    def close(self, everything_written: bool) -> None:
        """Removes the file, or leaves it for the next gateway."""
        if self._fd < 0:
            return
        if everything_written:
            self._path.unlink(missing_ok=True)
        self._memory.close()
        os.close(self._fd)
        self._fd = -1

    def _grow(self) -> None:
        """Raises OSError. The disk gives the room first: a store into memory that it has none for ends the process."""
        if os.pwrite(self._fd, bytes(_STEP), self._size) < _STEP:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._memory = mmap.mmap(self._fd, self._size + _STEP)
        self._free += range(self._size + _STEP - SLOT, self._size - 1, -SLOT)
        self._size += _STEP

    def _write(self, at: int, row: RequestRow) -> None:
        """Raises JSONEncodeError. A process that is killed in between leaves an empty slot, not half of a row."""
        data = orjson.dumps(stored(self.run, row), option=orjson.OPT_APPEND_NEWLINE)
        self._memory[at] = _EMPTY
        self._memory[at + 1 : at + 1 + len(data)] = data
        self._memory[at] = _TAKEN

    def _complain(self, error: Exception) -> None:
        """Once in a row."""
        if not self._failed:
            log.warning("%s: %s; rows are kept in memory only", self._path, error)
        self._failed = True


class LeftBehind:
    """The file of a gateway that is no more, locked against others who find it, and its rows."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd

    def rows(self) -> list[Values]:
        """As `COLUMNS`. Nobody knows the end of one that was in flight: it counts as truncated.

        A file that the disk does not give back has none: it must not keep those of today waiting.
        """
        try:
            data = os.pread(self._fd, _MOST_BYTES, 0)
        except OSError as error:
            log.error("%s cannot be read: %s", self._path, error.strerror)
            return []
        header, *rows = (_parse(data[at : at + SLOT]) for at in range(0, len(data), SLOT)) if data else ([],)
        return [row for cells in rows if (row := _row(header, cells))]

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._fd)


def left_behind(database: Path) -> Generator[LeftBehind]:
    """The files whose gateways have ended, one after the other. Raises OSError."""
    if not _AVAILABLE:
        return
    for path in sorted(database.parent.glob(f"{_prefixed(database, '').name}*")):
        if path.suffix == ".draft":
            continue
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            log.warning("%s: what another gateway left behind cannot be read: %s", path, error.strerror)
            continue
        found = LeftBehind(path, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found.close()
            continue
        try:
            yield found
        finally:
            found.close()


def _prefixed(database: Path, run: str) -> Path:
    return database.with_name(f"{database.name}-unwritten-{run}")


def _parse(slot: bytes) -> list[Any]:
    """What stands in a slot: nothing where it is empty, or was cut off."""
    try:
        found = orjson.loads(slot.partition(_END)[0])
    except orjson.JSONDecodeError:
        return []
    return found if isinstance(found, list) else []


def _row(header: list[Any], cells: list[Any]) -> Values | None:
    plain = all(cell is None or isinstance(cell, str | int | float) for cell in (*header, *cells))
    if not cells or len(cells) != len(header) or not plain:
        return None
    named = dict(zip(header, cells, strict=True))
    if named.get("state") not in _FINAL:
        named["state"] = RequestState.TRUNCATED.value
    return tuple(named.get(column) for column in COLUMNS)
