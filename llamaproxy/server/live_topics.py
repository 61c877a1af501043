"""What pages watch: for each topic how things are now, and what is another than when they were last told.

Owns what counts as a change. A topic is looked at only while somebody watches it, and then by comparing what is in
memory with what was told: nothing on the way of a request has to report anything here, and nothing can be forgotten.
Sends nothing: `live` does.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import islice
from operator import attrgetter
from typing import Any

from llamaproxy.config import Config
from llamaproxy.server.adjust import settings_of
from llamaproxy.server.current import Current
from llamaproxy.server.models import Models
from llamaproxy.server.progress import Progress
from llamaproxy.server.shownmodel import ShownModel
from llamaproxy.server.system import System
from llamaproxy.telemetry.follow import Subscription
from llamaproxy.telemetry.ledger import Ledger, RequestRow
from llamaproxy.telemetry.logline import LogEntry
from llamaproxy.telemetry.logquery import LAST, LogQuery
from llamaproxy.telemetry.logs import Logs
from llamaproxy.telemetry.redaction import REDACTION

Change = tuple[str, Any]
"""The name of an event, and its data."""

MOST_IN_FLIGHT = 200
MOST_FINISHED = 50
MOST_LINES = 200
_MOST_CHARACTERS = 256 * 1024
"""Of the lines in one message."""
_SLOWEST_METRICS = 2.0
"""Seconds."""

_CLOCKS = ("uptime", "idle", "starting_for", "retry_in")
_steady = attrgetter(*(field.name for field in fields(ShownModel) if field.name not in _CLOCKS))
"""Everything of a model that does not change by itself."""


class Topic:
    """`seq` is the number of the last message about it."""

    def __init__(self) -> None:
        self.seq = 0
        self.watched = False

    def begin(self) -> None:
        """Somebody watches from now on: what is now is known."""

    def end(self) -> None:
        """Nobody does any more."""

    async def prepare(self) -> None:
        """Have read what a snapshot needs and what cannot be read at once."""

    def snapshot(self) -> Any:
        """How things are: what was told up to `seq`, or newer."""
        return {}

    def changes(self) -> Iterator[Change]:
        """Since this was last asked, or watching began."""
        yield from ()


class ModelsTopic(Topic):
    """Models, whole ones: those that came, went, are configured otherwise, or do something else."""

    def __init__(self, current: Current, models: Models) -> None:
        super().__init__()
        self._current = current
        self._models = models
        self._catalogue = current.catalogue
        self._told: dict[str, Any] = {}

    def begin(self) -> None:
        self._catalogue = self._current.catalogue
        self._told = {shown.name: _steady(shown) for shown in self._models.all()}

    def end(self) -> None:
        self._told = {}

    def snapshot(self) -> Any:
        return {"models": self._models.all()}

    def changes(self) -> Iterator[Change]:
        shown, told = {model.name: model for model in self._models.all()}, self._told
        self._told = {name: _steady(model) for name, model in shown.items()}
        updated = self._reconfigured()
        created = [name for name in shown if name not in told]
        status = [name for name in shown if name in told and name not in updated and self._told[name] != told[name]]
        if deleted := [name for name in told if name not in shown]:
            yield "models:deleted", {"names": deleted}
        for event, names in (("created", created), ("updated", updated), ("status", status)):
            if names:
                yield f"models:{event}", {"models": [shown[name] for name in names]}

    def _reconfigured(self) -> list[str]:
        before, after = self._catalogue.models, self._current.catalogue.models
        if before is after:
            return []
        self._catalogue = self._current.catalogue
        return [name for name, model in after.items() if name in before and model != before[name]]


class MetricsTopic(Topic):
    """The machine and the engines, as often as they are looked at."""

    def __init__(self, current: Current, system: System, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._current = current
        self._system = system
        self._clock = clock
        self._told_at = 0.0

    def begin(self) -> None:
        self._told_at = self._clock()

    def snapshot(self) -> Any:
        return self._system.state()

    def changes(self) -> Iterator[Change]:
        interval = min(self._current.config.telemetry.metrics_interval, _SLOWEST_METRICS)
        now = self._clock()
        # A flush that comes a little early is the one that was meant.
        if now - self._told_at < interval * 0.9:
            return
        self._told_at = now
        yield "metrics:update", self._system.state()


class RequestsTopic(Topic):
    """Requests in flight, the oldest first, and those that ended, the newest first."""

    def __init__(self, ledger: Ledger, progress: Progress) -> None:
        super().__init__()
        self._ledger = ledger
        self._progress = progress
        self._ended = 0

    def begin(self) -> None:
        self._ended = self._ledger.ended.total()

    def snapshot(self) -> Any:
        untold = self._ledger.ended.total() - self._ended
        return {**self._in_flight(), "finished": self._finished(untold, MOST_FINISHED)}

    def changes(self) -> Iterator[Change]:
        ended = self._ledger.ended.total()
        new, self._ended = ended - self._ended, ended
        if new or self._ledger.in_flight:
            yield "requests:update", {**self._in_flight(), "finished": self._finished(0, min(new, MOST_FINISHED))}

    def _in_flight(self) -> dict[str, Any]:
        rows = islice(self._ledger.in_flight_rows(), MOST_IN_FLIGHT)
        return {"in_flight": [self._progress.shown(row) for row in rows], "total": self._ledger.in_flight}

    def _finished(self, after: int, count: int) -> list[dict[str, Any]]:
        newest: Iterator[RequestRow] = reversed(self._ledger.recent)
        return [row.shown() for row in islice(newest, after, after + count)]


class LogsTopic(Topic):
    """Lines, the oldest first; of a flood the newest."""

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs
        self._following: Subscription[LogEntry] | None = None
        self._cleared = -1
        self._dropped = 0
        self._stored: list[LogEntry] = []

    def begin(self) -> None:
        self._following = self._logs.follow(MOST_LINES)
        self._cleared = self._logs.cleared
        self._dropped = 0

    def end(self) -> None:
        if self._following:
            self._following.close()
        self._following, self._stored = None, []

    async def prepare(self) -> None:
        self._stored = await self._logs.page(LogQuery(limit=MOST_LINES))

    def snapshot(self) -> Any:
        """Without the lines that will be told next."""
        first = self._following.first if self._following else None
        query = LogQuery(limit=MOST_LINES, before=first.id if first else LAST, after=self._logs.cleared)
        entries = query.page([*self._stored, *self._logs.remembered(query)])
        return {"entries": _shown(entries[::-1])}

    def changes(self) -> Iterator[Change]:
        if self._logs.cleared != self._cleared:
            self._cleared = self._logs.cleared
            yield "logs:cleared", {}
        following = self._following
        if following is None:
            return
        taken = [entry for entry in following.take() if entry.id > self._cleared]
        lost, self._dropped = following.dropped - self._dropped, following.dropped
        entries = _that_fit(taken)
        if entries:
            yield "logs:entry", {"entries": _shown(entries), "dropped": lost + len(taken) - len(entries)}


class ConfigTopic(Topic):
    """That something is another; what it is now is asked for."""

    def __init__(self, current: Current) -> None:
        super().__init__()
        self._current = current
        self._config, self._keys = current.config, current.stored_keys

    def begin(self) -> None:
        self._config, self._keys = self._current.config, self._current.stored_keys

    def changes(self) -> Iterator[Change]:
        before, keys = self._config, self._keys
        self.begin()
        after = self._config
        if after is before and self._keys is keys:
            return
        if after != before:
            yield "config:updated", {}
        if settings_of(after) != settings_of(before):
            yield "settings:updated", {}
        if _all_keys(after, self._keys) != _all_keys(before, keys):
            yield "keys:updated", {}


def _all_keys(config: Config, stored: Any) -> dict[str, Any]:
    return {**stored, **config.keys}


def _that_fit(entries: list[LogEntry]) -> list[LogEntry]:
    """The newest, in as many characters as one message may have."""
    room = _MOST_CHARACTERS
    for kept, entry in enumerate(reversed(entries)):
        room -= len(entry.message) + len(entry.context or "")
        if room < 0 and kept:
            return entries[-kept:]
    return entries


def _shown(entries: list[LogEntry]) -> list[dict[str, Any]]:
    return [entry.shown(REDACTION.redact) for entry in entries]
