"""Reading from the database of rows, beside the one who writes.

Owns a connection that can do nothing but read: with a write-ahead log, readers and the writer do not wait for one
another. It is opened when something is asked, and closed when anything about it fails.
"""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiosqlite

from llamaproxy.telemetry.query import Sql
from llamaproxy.telemetry.store import connect

_PATIENCE = 5.0
"""Seconds for one question; then it is broken off."""
_BUSY = 1.0


class Reader:
    """Asks one question after the other."""

    def __init__(self, path: Path) -> None:
        self._address = f"file:{quote(str(path))}?mode=ro"
        self._connection: aiosqlite.Connection | None = None
        self._asking = asyncio.Lock()
        self._stale = False

    def renew(self) -> None:
        """The file is another one from now on."""
        self._stale = True

    async def fetch(self, sql: Sql) -> list[tuple[Any, ...]]:
        """Raises sqlite3.Error, also where the answer takes too long."""
        async with self._asking:
            if self._stale:
                await self._close()
            try:
                async with asyncio.timeout(_PATIENCE):
                    return await self._fetch(*sql)
            except TimeoutError as error:
                raise sqlite3.OperationalError(f"no answer within {_PATIENCE:.0f} s") from error

    async def _fetch(self, text: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        if self._connection is None:
            self._connection = await connect(self._address, uri=True, timeout=_BUSY)
        try:
            return [tuple(row) for row in await self._connection.execute_fetchall(text, values)]
        except BaseException:  # cancelled, SQLite would go on reading in its thread
            await self._connection.interrupt()
            await self._close()
            raise

    async def close(self) -> None:
        async with self._asking:
            await self._close()

    async def _close(self) -> None:
        connection, self._connection, self._stale = self._connection, None, False
        if connection:
            await connection.close()
