"""The journal: rows that outlive a gateway which is killed before they are in the database.

Owns a file beside the database with a slot for each row that a client may have the answer of and the database has not.
A slot is written before anything of the answer goes out, one `pwrite`, which the kernel keeps whatever becomes of this
process; after a loss of power it may be incomplete, as may the answers have been. When the row is committed the slot is
free for another: what it says until then is in the database already, where the same row is never put twice. Must not
raise on the way of a request: where it cannot write, rows are kept in memory only.

The file is locked as long as its gateway lives. One that is not is left behind by a killed gateway, and the next one
takes over what it says.
"""

import logging
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
_MOST_BYTES = 64 * 1024**2
"""What is read of a file that was left behind: more than the rows that may wait."""
_EMPTY = b"\n"
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
        self._free: list[int] = []
        self._used = 1
        self._complete: set[int] = set()
        self._failed = False

    def open(self) -> None:
        """Raises OSError. The first slot says what the others hold, so that a later release can read them."""
        if self._fd >= 0 or not _AVAILABLE:
            return
        draft = self._path.with_suffix(".draft")
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(fd, orjson.dumps(COLUMNS) + _EMPTY, 0)
            draft.rename(self._path)
        except OSError:
            os.close(fd)
            draft.unlink(missing_ok=True)
            raise
        self._fd = fd

    def mark(self, row: RequestRow) -> None:
        """Write a row as it is now, into its own slot if it has one."""
        if self._fd < 0:
            return
        if row.slot < 0:
            row.slot = self._free.pop() if self._free else self._next()
        try:
            self._write(row.slot, orjson.dumps(stored(self.run, row), option=orjson.OPT_APPEND_NEWLINE))
        except orjson.JSONEncodeError as error:
            self._complain(error)

    def keep(self, rows: Iterable[RequestRow]) -> None:
        """These are complete and have to wait for the database: not even how they ended may be forgotten."""
        for row in rows if self._fd >= 0 else ():
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
            self._write(row.slot, _EMPTY)
        self.release([row])

    def close(self, everything_written: bool) -> None:
        """Removes the file, or leaves it for the next gateway."""
        if self._fd < 0:
            return
        if everything_written:
            self._path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1

    def _next(self) -> int:
        self._used += 1
        return self._used - 1

    def _write(self, slot: int, data: bytes) -> None:
        try:
            os.pwrite(self._fd, data, slot * SLOT)
            self._failed = False
        except OSError as error:
            self._complain(error)

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
        found = orjson.loads(slot.partition(_EMPTY)[0])
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
