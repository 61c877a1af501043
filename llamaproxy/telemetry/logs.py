"""The log: what the gateway says and what engines print, for those who ask and those who follow.

Joins the ring in memory, the table in the database, the files and the followers, and gives every line its number. Owns
no line's spelling (`logline`) and no bound (each part has its own). Nothing here waits, and nothing here logs: a line
about a line would have no end.

Belongs to the thread of the event loop; lines of other threads are handed over to it.
"""

import asyncio
import contextlib
import logging
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from llamaproxy.config import Config, TelemetryConfig
from llamaproxy.tasks import spawn
from llamaproxy.telemetry import console
from llamaproxy.telemetry.follow import MOST_WAITING, Followers, Subscription
from llamaproxy.telemetry.history import History
from llamaproxy.telemetry.logfiles import LogFiles
from llamaproxy.telemetry.logline import LogEntry, from_engine, from_record, set_format, set_level
from llamaproxy.telemetry.logquery import LogQuery, to_entry
from llamaproxy.telemetry.logring import LogRing
from llamaproxy.telemetry.logrows import LogRows
from llamaproxy.telemetry.redaction import REDACTION, secrets_of

log = logging.getLogger(__name__)


class Logs:
    """Made inside the event loop; collects from `attach` to `close`."""

    def __init__(self, config: Config, history: History) -> None:
        self._settings = config.telemetry
        self._history = history
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._handler = _Collector(self)
        self._ring = LogRing()
        self._followers: Followers[LogEntry] = Followers()
        self._last = 0
        self._cleared = -1
        self._rows = LogRows(REDACTION.redact)
        wake = history.attach(self._rows)
        self._stores = wake is not None
        self._rows.wake = wake or self._rows.wake
        self.files = _files(config.telemetry)
        self._know(config)

    def attach(self) -> None:
        logging.getLogger().addHandler(self._handler)

    def reconfigure(self, config: Config) -> None:
        """A level that was set by hand stays until the configured one is another."""
        old, new = self._settings, config.telemetry
        if new.log_level != old.log_level:
            set_level(new.log_level)
        if new.log_format != old.log_format:
            set_format(new.log_format, REDACTION.redact)
        if new.log_dir != old.log_dir:
            left, self.files = self.files, _files(new)
            if left:
                spawn(asyncio.to_thread(left.close), name="close-log-files")
        self._settings = new
        self._know(config)

    async def close(self) -> None:
        """Files are written to their ends; who follows is told that there is no more."""
        logging.getLogger().removeHandler(self._handler)
        self._followers.close()
        if self.files:
            await asyncio.to_thread(self.files.close)

    def said(self, record: logging.LogRecord) -> None:
        """A line of the gateway's own, from any thread."""
        if threading.get_ident() == self._thread:
            self._take(from_record(record, self._number()))
            return
        entry = from_record(record, 0)
        # The loop may have ended before the thread.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(lambda: self._take(entry._replace(id=self._number())))

    def printed(self, model: str, line: str) -> None:
        """A line of an engine's. Those that tell of trouble are kept in the database, too."""
        entry = from_engine(model, line, self._number())
        self._ring.put(entry)
        if self._followers:
            self._followers.tell(entry)
        if entry.level >= logging.WARNING and self._stores:
            self._rows.put(entry)
        if self.files:
            self.files.put(model, entry.id / 1e6, line)

    def listener(self, model: str) -> "partial[None]":
        """What an engine's output is to be told to."""
        return partial(self.printed, model)

    def follow(self, most: int = MOST_WAITING) -> Subscription[LogEntry]:
        """All lines from now on; to be closed by who asked."""
        return self._followers.follow(most)

    async def page(self, query: LogQuery) -> list[LogEntry]:
        """What is known to memory or database, in the order that was asked for."""
        query = replace(query, after=max(query.after, self._cleared))
        known: list[LogEntry] = []
        for ring in self._ring.parts():
            known += ring.select(query)
            await asyncio.sleep(0)  # to look for a text in all of them at once would hold up who is served
        stored = (await self._history.fetch(query.sql()) if self._stores else None) or []
        return query.page([*known, *map(to_entry, stored)])

    async def edge(self, query: LogQuery) -> int | None:
        """The `id` of the last line that a search looks at; None where it looks at all there are."""
        rows = await self._history.fetch(query.edge_sql()) if query.text and self._stores else None
        return rows[0][0] if rows else None

    def remembered(self, query: LogQuery) -> list[LogEntry]:
        """The same of what is in memory, at once."""
        return query.page(self._ring.select(replace(query, after=max(query.after, self._cleared))))

    @property
    def cleared(self) -> int:
        """Lines up to this `id` are forgotten."""
        return self._cleared

    def clear(self) -> None:
        """Forget all lines up to now; files stay."""
        self._cleared = self._number()
        self._ring.clear()
        if self._stores:
            self._rows.clear(self._cleared)

    def health(self) -> dict[str, Any]:
        """How much was lost on the way: to the database because it did not keep up, to files and to stderr."""
        return {
            "lines": len(self._ring),
            "followers": len(self._followers),
            "rows_dropped": self._rows.dropped,
            "directory": str(self.files.directory) if self.files else None,
            "file_lines_dropped": self.files.dropped if self.files else 0,
            "stderr_lines_dropped": console.dropped(),
        }

    def _take(self, entry: LogEntry) -> None:
        self._ring.put(entry)
        self._followers.tell(entry)
        if self._stores:
            self._rows.put(entry)

    def _number(self) -> int:
        """Rises, whatever the clock does."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return self._last

    def _know(self, config: Config) -> None:
        keys = [model.api_key.get_secret_value() for model in config.models.values() if model.api_key]
        environments = [config.engine.env, *(model.env for model in config.models.values())]
        REDACTION.know([*keys, *(secret for env in environments for secret in secrets_of(env))])


class _Collector(logging.Handler):
    """What `logging` tells: its own lock is no use here, its protection against lines that cannot be made is."""

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._logs.said(record)
        except Exception:  # as `logging.Handler` asks: a line that cannot be kept fails no one
            self.handleError(record)


def _files(settings: TelemetryConfig) -> LogFiles | None:
    return LogFiles(Path(settings.log_dir).expanduser(), REDACTION.redact) if settings.log_dir else None
