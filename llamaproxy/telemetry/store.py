"""The database of rows: one SQLite file, and one connection that writes it.

Owns how the file is made, opened, brought up to date, written, pruned and, where it is corrupt, moved out of the way.
Decides nothing about when: `writer` does, and hears of every failure as an exception.
"""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Self

import aiosqlite

from llamaproxy.telemetry.ledger import NULL
from llamaproxy.telemetry.schema import (
    INSERT,
    INSERTS,
    PUT_METRICS,
    READ_METRICS,
    SHORTEN_METRICS,
    steps,
)
from llamaproxy.telemetry.series import TIERS

_BUSY = 1.0
"""Seconds that a statement waits for another process's lock before it fails."""
PRUNED_AT_ONCE = 500
"""Rows of one deletion: a transaction of some milliseconds, after which waiting rows have their turn."""
_PAGES_FREED = 256
_LONGEST_LOG = 64 * 1024**2
"""Bytes to which the write-ahead log is cut after a checkpoint."""
_CORRUPT_KEPT = 3
"""Corrupt files that are kept for somebody to look at, the newest."""
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NO_VALUE = (OverflowError, UnicodeError)
"""What SQLite cannot hold: numbers beyond 64 bits, text that is no Unicode."""

# The binding looks for an adapter for each None, and for longer where there is none.
sqlite3.register_adapter(type(None), {None: NULL}.get)

Values = Sequence[Any]


def is_corrupt(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPT


def create(path: Path) -> None:
    """The file, for nobody but this user, as its companions are then, too. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        if hasattr(os, "fchmod") and os.fstat(fd).st_mode & 0o077:
            os.fchmod(fd, 0o600)
    finally:
        os.close(fd)


def move_aside(path: Path, now: float | None = None) -> Path:
    """Give a corrupt file and its companions another name, and forget the oldest of such. Raises OSError."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    kept = sorted(path.parent.glob(f"{path.name}.corrupt-*Z"))
    for old in kept[:-_CORRUPT_KEPT]:
        for suffix in ("-wal", "-shm", ""):
            old.with_name(old.name + suffix).unlink(missing_ok=True)
    return aside


async def connect(address: str | Path, **options: Any) -> aiosqlite.Connection:
    """Raises sqlite3.Error. Where it fails no thread is left that would speak to an event loop which may be gone."""
    connection = aiosqlite.connect(address, **options)
    try:
        return await connection
    except BaseException:  # cancelled or not, its thread must have ended
        await asyncio.to_thread(connection._thread.join)
        raise


def _together(rows: Sequence[Values]) -> Iterator[tuple[str, list[Values]]]:
    """As few statements as there are for so many, and what each takes, as often as it is needed."""
    begin = 0
    for count, statement in INSERTS.items():
        end = len(rows) - (len(rows) - begin) % count
        if begin < end:
            yield statement, [list(chain.from_iterable(rows[at : at + count])) for at in range(begin, end, count)]
        begin = end


class Store:
    """One open database. Every method raises sqlite3.Error."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Make it or bring it up to date. Raises OSError, sqlite3.Error, or NewerDatabase."""
        create(path)
        connection = await connect(path, timeout=_BUSY)
        try:
            store = cls(connection)
            await store._set_up()
        except BaseException:  # nobody else would close it, cancelled or not
            await connection.close()
            raise
        return store

    async def _set_up(self) -> None:
        # First of all, because a file of a later release must not be touched.
        scripts = steps(await self._number("PRAGMA user_version"))
        for pragma in ("auto_vacuum = INCREMENTAL", "journal_mode = WAL", "synchronous = FULL"):
            await self._connection.execute_fetchall(f"PRAGMA {pragma}")
        await self._connection.execute_fetchall(f"PRAGMA journal_size_limit = {_LONGEST_LOG}")
        for script in scripts:
            await self._connection.executescript(script)

    async def insert(self, rows: Sequence[Values], sql: str = INSERT) -> int:
        """All of them, in one transaction that is on the disk when this returns, or none.

        How many were left out, because no database could hold them: they must not keep the others waiting for ever.
        """
        try:
            await self._insert(rows, sql)
        except _NO_VALUE:
            return sum([not await self._inserted(row, sql) for row in rows])
        return 0

    async def _inserted(self, row: Values, sql: str) -> bool:
        try:
            await self._insert([row], sql)
        except _NO_VALUE:
            return False
        return True

    async def _insert(self, rows: Sequence[Values], sql: str) -> None:
        try:
            for statement, cells in _together(rows) if sql == INSERT else [(sql, rows)]:
                await self._connection.executemany(statement, cells)
            await self._connection.commit()
        except BaseException:  # cancelled or not, no transaction stays open
            await self._connection.rollback()
            raise

    async def put_metrics(self, rows: Sequence[Values]) -> None:
        """Rows of `series`, in place of those of the same step; the oldest of a tier go."""
        tiers = [{"step": step, "most": most} for step, most in TIERS.values()]
        try:
            await self._connection.executemany(PUT_METRICS, rows)
            await self._connection.executemany(SHORTEN_METRICS, tiers)
            await self._connection.commit()
        except BaseException:  # cancelled or not, no transaction stays open
            await self._connection.rollback()
            raise

    async def metrics(self) -> list[tuple[Any, ...]]:
        """All rows of `series`: some thousands."""
        return [tuple(row) for row in await self._connection.execute_fetchall(READ_METRICS)]

    async def check(self) -> None:
        """Read all of it. Raises sqlite3.DatabaseError where it is corrupt."""
        ((found,),) = await self._connection.execute_fetchall("PRAGMA quick_check(1)")
        if found != "ok":
            error = sqlite3.DatabaseError(found)
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

    async def newest(self) -> float | None:
        """When the newest row began."""
        ((found,),) = await self._connection.execute_fetchall("SELECT max(started_at) FROM requests")
        return found  # type: ignore[no-any-return]  # the column's type is the schema's

    async def prune(self, horizon: float, most_bytes: int) -> bool:
        """Delete some of the rows from before `horizon`, or of the oldest where the file is too large.

        Whether there may be more of them.
        """
        too_large = await self._bytes() > most_bytes
        where = "" if too_large else "WHERE started_at < ?"
        oldest = f"SELECT run, number FROM requests {where} ORDER BY started_at LIMIT {PRUNED_AT_ONCE}"
        deleted = await self.delete(
            f"DELETE FROM requests WHERE (run, number) IN ({oldest})", () if too_large else (horizon,)
        )
        return deleted == PRUNED_AT_ONCE

    async def delete(self, sql: str, values: Values) -> int:
        """How many rows that were. Some of the room they took is given back to the disk."""
        try:
            cursor = await self._connection.execute(sql, values)
            await self._connection.commit()
        except BaseException:  # cancelled or not, no transaction stays open
            await self._connection.rollback()
            raise
        # One step frees one page, and `execute` takes one step.
        await self._connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_FREED})")
        return cursor.rowcount

    async def _bytes(self) -> int:
        """What the rows take, without pages that are free again."""
        pages = await self._number("PRAGMA page_count") - await self._number("PRAGMA freelist_count")
        return pages * await self._number("PRAGMA page_size")

    async def _number(self, pragma: str) -> int:
        ((found,),) = await self._connection.execute_fetchall(pragma)
        return int(found)

    async def close(self) -> None:
        await self._connection.close()
