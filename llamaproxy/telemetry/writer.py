"""The one task that writes rows to the database.

Owns when: in groups, so that one `fsync` serves many rows; again and again where it fails; and the deletion of old
rows in between. No request waits for it, whatever the disk does. How the file is written is the store's, what outlives
a kill is the journal's.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from llamaproxy.tasks import spawn
from llamaproxy.telemetry import store as files
from llamaproxy.telemetry.journal import Journal, left_behind
from llamaproxy.telemetry.ledger import RequestRow, stored
from llamaproxy.telemetry.retention import Anchor
from llamaproxy.telemetry.schema import NewerDatabase
from llamaproxy.telemetry.series import Row, Series
from llamaproxy.telemetry.spool import MOST_ROWS, Spool
from llamaproxy.telemetry.store import Store

log = logging.getLogger(__name__)

GROUP = 500
"""Rows that are written without waiting for more."""
GATHER, MOST_GATHER = 0.005, 0.1
"""Seconds that a row may wait for others to be written with: the least, and the most where rows come so fast that the
database would have a core for itself. They are in the journal all the while."""
_SHARE = 10
"""How much longer than it took to write the last group the next one is gathered."""
_MOST_AT_ONCE = 1000
_MOST_METRICS = 1000
"""Rows of an hour of steps, of all tiers."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two attempts."""
_FIRST_PRUNE, _PRUNE_EVERY = 60.0, 3600.0
"""Seconds: a start has better things to do."""
_LAST_PATIENCE = 10.0
"""Seconds for the last rows at shutdown."""
_FAILURES = (sqlite3.Error, OSError, NewerDatabase)


@dataclass(frozen=True, slots=True)
class Keep:
    """Rows are kept for so many seconds, and as long as the file has no more than so many bytes."""

    seconds: float
    bytes: int


class Sideline(Protocol):
    """Something else that the same task writes into the same file, after the rows that wait."""

    def __len__(self) -> int:
        """How much there is to be done."""

    async def write(self, store: Store) -> None:
        """Do it. Raises what the store raises, and is asked again then."""

    async def prune(self, store: Store, horizon: float) -> bool:
        """Delete some of what is from before `horizon`, in seconds since the epoch; whether there may be more."""


class Writer:
    """Writes what it is given, from `start` to `close`. `trouble` says what is wrong, None where all is well."""

    def __init__(
        self,
        path: Path,
        keep: Callable[[], Keep],
        on_replaced: Callable[[], None] = lambda: None,
        series: Series | None = None,
    ) -> None:
        """`on_replaced` is called when the file was moved aside; `series` gets what the file knows of it."""
        self.path = path
        self._series = series or Series()
        self._metrics: dict[tuple[int, int], Row] = {}
        self.spool = Spool()
        self.journal = Journal(path)
        self.trouble: str | None = None
        self._sidelines: list[Sideline] = []
        self._keep = keep
        self._on_replaced = on_replaced
        self._store: Store | None = None
        self._anchor: Anchor | None = None
        self._prune_at = time.monotonic() + _FIRST_PRUNE
        self._pause = 0.0
        self._gather = GATHER
        self._suspect = False
        self._told_lost = False
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """The first requests are in the journal already; the database is opened behind their backs."""
        try:
            files.create(self.path)
            self.journal.open()
        except OSError as error:
            self._tell(error)
        self._task = spawn(self._run(), name="write-rows")

    def put(self, row: RequestRow) -> None:
        """A complete row. Never waits."""
        if row.slot < 0:
            self.journal.mark(row)
        if dropped := self.spool.put(row):
            self._lose(dropped)
        waiting = self.spool.waiting
        if waiting == 1 or waiting == GROUP:
            self._wake.set()

    def attach(self, sideline: Sideline) -> None:
        self._sidelines.append(sideline)

    def nudge(self) -> None:
        """A sideline has something to be written. What went wrong is not tried again any sooner for it."""
        if not self._pause:
            self._wake.set()

    def put_metrics(self, rows: Iterable[Row]) -> None:
        """Of `series`. Never waits; where the database cannot be written, the oldest are forgotten."""
        self._metrics |= {(row[0], row[1]): row for row in rows}
        for name in list(self._metrics)[:-_MOST_METRICS]:
            del self._metrics[name]
        self._wake.set()

    def doubt(self) -> None:
        """Somebody has read something that cannot be."""
        self._suspect = True
        self._wake.set()

    async def close(self) -> None:
        """Write what is left. Rows that cannot be written are left in the journal, for the next gateway."""
        self._closing = True
        self._wake.set()
        if self._task:
            await asyncio.wait({self._task}, timeout=_LAST_PATIENCE)
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._store:
            await self._store.close()
        if self.spool:
            log.error("%d rows could not be written to %s: %s", len(self.spool), self.path, self.trouble)
            self.journal.keep(self.spool)
        self.journal.close(everything_written=not self.spool)

    async def _run(self) -> None:
        while not self._closing or self._busy():
            try:
                await self._rest()
                await self._step()
            except Exception as error:  # the one task that writes must not end: rows would only be counted as lost
                if not isinstance(error, _FAILURES):
                    log.exception("a fault of the gateway's own; it goes on")
                await self._failed(error)
                if self._closing:
                    return

    async def _rest(self) -> None:
        """Until there is something to do: after a failure, only for a time."""
        if self._closing:
            return
        if self._pause:
            await self._woken(self._pause)
        elif self._store:
            if not self._busy() and not self._suspect:
                await self._woken(max(0.0, self._prune_at - time.monotonic()))
            if not self._closing and len(self.spool) < GROUP:
                await self._woken(self._gather)

    def _busy(self) -> bool:
        return bool(self.spool or self._metrics) or any(self._sidelines)

    async def _woken(self, timeout: float) -> None:
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wake.wait()

    async def _step(self) -> None:
        store = self._store = self._store or await self._open()
        if self._suspect:
            await store.check()
            self._suspect = False
        if rows := self.spool.take(_MOST_AT_ONCE):
            begun = time.monotonic()
            await self._insert(store, [stored(self.journal.run, row) for row in rows])
            self._gather = min(max(GATHER, _SHARE * (time.monotonic() - begun)), MOST_GATHER)
            self.spool.done()
            self.journal.release(rows)
        if metrics := dict(self._metrics):
            await store.put_metrics([*metrics.values()])
            self._metrics = {name: row for name, row in self._metrics.items() if metrics.get(name) is not row}
        for sideline in filter(len, self._sidelines):
            await sideline.write(store)
        self._recovered()
        if time.monotonic() >= self._prune_at:
            await self._prune(store)

    async def _insert(self, store: Store, rows: Sequence[files.Values]) -> None:
        if left_out := await store.insert(rows):
            self.spool.lost += left_out
            log.error("%d rows hold what no database can, and were left out", left_out)

    async def _open(self) -> Store:
        """With what killed gateways have left behind."""
        store = await Store.open(self.path)
        try:
            self.journal.open()
            self._anchor = self._anchor or Anchor(time.time(), time.monotonic(), await store.newest())
            with closing(left_behind(self.path)) as found:
                for left in found:
                    rows = await asyncio.to_thread(left.rows)
                    await self._insert(store, rows)
                    left.remove()
                    log.info("%d rows in the journal of a gateway that was killed are in the database", len(rows))
            self._series.load(await store.metrics())
        except BaseException:  # nobody else would close it, cancelled or not
            await store.close()
            raise
        return store

    async def _prune(self, store: Store) -> None:
        """Some rows; where there are more, waiting ones are written in between."""
        assert self._anchor
        keep = self._keep()
        horizon = self._anchor.horizon(time.time(), time.monotonic(), keep.seconds)
        self._prune_at = time.monotonic() + _PRUNE_EVERY
        more = await store.prune(horizon, keep.bytes)
        for sideline in self._sidelines:
            more |= await sideline.prune(store, horizon)
        if more:
            self._prune_at = time.monotonic()

    async def _failed(self, error: Exception) -> None:
        """Whatever it was, the file is opened anew after a pause: it may be another one by then."""
        self._tell(error)
        self.journal.keep(self.spool)
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        store, self._store = self._store, None
        try:
            if store:
                await store.close()
            if files.is_corrupt(error):
                log.error("%s is corrupt; it is kept as %s", self.path, files.move_aside(self.path))
                self._suspect = False
                self._on_replaced()
        except _FAILURES as another:
            self._tell(another)

    def _tell(self, error: Exception) -> None:
        reason = f"{self.path}: {error}"
        if reason != self.trouble:
            log.warning("rows of requests have to wait: %s", reason)
        self.trouble = reason

    def _recovered(self) -> None:
        if self.trouble:
            log.info("%s: rows are written again", self.path)
        self.trouble = None
        self._pause = 0.0
        self._told_lost = False

    def _lose(self, row: RequestRow) -> None:
        self.journal.forget(row)
        if not self._told_lost:
            log.error("more than %d rows wait for the database: the oldest are lost", MOST_ROWS)
        self._told_lost = True
