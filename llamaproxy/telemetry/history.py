"""The history of requests: what is in flight, what has ended, and what has been in earlier days; and the machine's.

Owns where the database lies, and joins its parts: the ledger, which is told of every request; the writer; the reader.
What is read is one list, whether rows are in the database or still in memory. Without a database there are the last
rows that ended, and nothing of them outlives the process.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamaproxy.config import TelemetryConfig
from llamaproxy.statefile import state_directory
from llamaproxy.telemetry import query as queries
from llamaproxy.telemetry import usage as sums
from llamaproxy.telemetry.claim import Claim
from llamaproxy.telemetry.ledger import Ledger, RequestRow, RequestState, Told
from llamaproxy.telemetry.query import Query, Sql
from llamaproxy.telemetry.reader import Reader
from llamaproxy.telemetry.series import Series
from llamaproxy.telemetry.store import is_corrupt
from llamaproxy.telemetry.writer import Keep, Sideline, Writer

log = logging.getLogger(__name__)

_OFF = ("", "off")
_FILE = "llamaproxy.db"

Shown = dict[str, Any]
Show = Callable[[RequestRow], Shown]


def location(database: str | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where the database lies, None for nowhere."""
    if database is not None:
        return None if database in _OFF else Path(database).expanduser()
    return state_directory(environ) / _FILE


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, and the cursor of those after them, if there may be more."""

    rows: list[Shown]
    next: str | None


class History:
    """All requests of which there is a row, and `series`, the machine's past. `ended` hears of every complete row."""

    def __init__(self, settings: TelemetryConfig, ended: Told = lambda row: None) -> None:
        self._settings = settings
        self.series = Series()
        self._path = location(settings.database)
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._claim: Claim | None = None
        if self._path is None:
            self.ledger = Ledger(ended=ended)
            return
        self._reader = Reader(self._path)
        self._claim = Claim(self._path)
        series = self.series if self._claim.held else None
        self._writer = writer = Writer(self._path, self._keep, self._reader.renew, series)

        def both(row: RequestRow) -> None:
            writer.put(row)
            ended(row)

        self.ledger = Ledger(answering=writer.journal.mark, ended=both)

    def attach(self, sideline: Sideline) -> Callable[[], object] | None:
        """Have something else written into the database: what to call when there is something.

        None without one, and where it is another gateway's: what is not told apart there is to be left alone.
        """
        if not self._writer or not self._owns:
            return None
        self._writer.attach(sideline)
        return self._writer.nudge

    @property
    def _owns(self) -> bool:
        return self._claim is not None and self._claim.held

    def start(self) -> None:
        """Begin to write. Must run inside an event loop."""
        if self._writer:
            self._writer.start()

    def reconfigure(self, settings: TelemetryConfig) -> None:
        """How long rows are kept changes at once."""
        if location(settings.database) != self._path:
            log.warning("telemetry.database is taken over by a restart only")
        self._settings = settings

    async def close(self) -> None:
        """Write what is left; after the last request.

        The writer goes last: only who may write takes the write-ahead log away.
        """
        if self._reader:
            await self._reader.close()
        if self._writer:
            await self._writer.close()
        if self._claim:
            self._claim.close()

    def sample(self, at: float, values: Sequence[float | None]) -> None:
        """What the machine does at `at`, as `series.COLUMNS`."""
        rows = self.series.add(at, values)
        if self._writer and self._owns:
            self._writer.put_metrics(rows)

    @property
    def spooled(self) -> int:
        """Rows that wait for the database."""
        return len(self._writer.spool) if self._writer else 0

    @property
    def trouble(self) -> str | None:
        """Why rows are not written, None where they are."""
        return self._writer.trouble if self._writer else None

    def health(self) -> Shown:
        return {
            "database": str(self._path) if self._path else None,
            "spooled_rows": self.spooled,
            "lost_rows": self._writer.spool.lost if self._writer else 0,
            "error": self.trouble,
        }

    async def page(self, query: Query, show: Show = RequestRow.shown) -> Page:
        """One page. Where the database cannot be read, it is made of what is in memory.

        `show` spells rows in flight.
        """
        # What leaves the memory while the database is read is there by then; so this comes first.
        waiting = self._placed(query, self.ledger.in_flight_rows(), show)
        waiting |= self._placed(query, self._spooled())
        stored = await self.fetch(query.sql()) if query.reads_database else []
        if stored is None:
            waiting |= self._placed(query, self.ledger.recent)
            stored = []
        for cells in stored:
            run, row = queries.to_row(cells)
            waiting[run, row.number] = query.place(run, row), row.shown()
        found = sorted(waiting.values(), key=lambda placed: query.rank(placed[0]))[: query.limit]
        following = str(found[-1][0]) if len(found) == query.limit else None
        return Page([row for _, row in found], following)

    async def find(self, request_id: str, show: Show = RequestRow.shown) -> Shown | None:
        """The newest row with this id; `show` spells one that is in flight."""
        known = [*self.ledger.recent, *self._spooled(), *self.ledger.in_flight_rows()]
        named = [row for row in known if row.id == request_id]
        if named:
            newest = max(named, key=lambda row: row.started_at)
            return show(newest) if newest.state is RequestState.IN_FLIGHT else newest.shown()
        found = await self.fetch(queries.find_sql(request_id))
        return queries.to_row(found[0])[1].shown() if found else None

    async def usage(self, groups: tuple[str, ...], since: float) -> list[Shown]:
        """Sums over what has ended, and percentiles of the newest of it."""
        found = await self.fetch(sums.sql(groups, since))
        ranked = None if found is None else await self.fetch(sums.percentile_sql(groups, since))
        if found is None:
            found = sums.tally(self.ledger.recent, groups, since)
            ranked = sums.percentiles(self.ledger.recent, groups, since)
        return sums.joined(groups, found, ranked or ())

    def _keep(self) -> Keep:
        return Keep(self._settings.retention, self._settings.retention_bytes)

    def _spooled(self) -> Iterable[RequestRow]:
        return self._writer.spool if self._writer else ()

    def _placed(
        self, query: Query, rows: Iterable[RequestRow], show: Show = RequestRow.shown
    ) -> dict[tuple[int, int], tuple[queries.Place, Shown]]:
        """Those that are asked for, by what tells them from all others."""
        run = self._writer.journal.run if self._writer else 0
        places = ((query.place(run, row), row) for row in rows if query.matches(row))
        return {(run, row.number): (place, show(row)) for place, row in places if query.after(place)}

    async def fetch(self, sql: Sql) -> list[tuple[Any, ...]] | None:
        """None where there is no database, or it cannot be read."""
        if not self._reader or not self._writer:
            return None
        try:
            return await self._reader.fetch(sql)
        except sqlite3.Error as error:
            log.warning("%s cannot be read: %s", self._path, error)
            if is_corrupt(error):
                self._writer.doubt()
            return None
