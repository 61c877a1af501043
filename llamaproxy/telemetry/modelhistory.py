"""What happened to every model: in memory for the last hours, in the database for as long as rows are kept.

Owns both bounds and the way between them, and what is shown of a span of time: what happened in it, and in which state
each model was at its beginning. What happened is said by `modelevent`.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import orjson

from llamaproxy.core.events import News
from llamaproxy.errors import InvalidRequest
from llamaproxy.telemetry.follow import Followers, Subscription
from llamaproxy.telemetry.history import History
from llamaproxy.telemetry.modelevent import AT_REST, BEGAN, BREAKER, STOPPED, Lives, ModelEvent
from llamaproxy.telemetry.query import Sql
from llamaproxy.telemetry.store import PRUNED_AT_ONCE, Store

RANGES = {"5m": 300, "1h": 3600, "24h": 86400, "7d": 7 * 86400}
MOST_REMEMBERED = 200
"""Of one model, in memory: an hour of a swap a minute."""
MOST_MODELS = 1000
MOST_WAITING = 1000
MOST_KEPT = 200_000
"""In the database: some 20 MB."""
MOST_SHOWN = 5000
"""In one answer; where there were more, it begins later than was asked for."""
_COLUMNS = "timestamp, model, spawn, state, reason, detail, seconds"
_INSERT = f"INSERT OR IGNORE INTO model_events ({_COLUMNS}, breaker) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

Track = dict[str, list[ModelEvent]]


def parse_range(text: str) -> str:
    """Raises InvalidRequest."""
    if text not in RANGES:
        raise InvalidRequest(f"`range` must be one of {', '.join(RANGES)}", param="range")
    return text


@dataclass(frozen=True, slots=True)
class Span:
    """What happened to each model between two times, in seconds since the epoch; its state at the beginning first."""

    begin: float
    end: float
    models: dict[str, list[dict[str, Any]]]


class ModelHistory:
    """Told of all news of backends, in order; a sideline of the writer."""

    def __init__(self, history: History, clock: Callable[[], int] = time.time_ns) -> None:
        """`clock` in nanoseconds since the epoch."""
        self._history = history
        self._clock = clock
        self._lives = Lives()
        self._last = 0
        self._recent: dict[str, deque[ModelEvent]] = {}
        self._waiting: deque[ModelEvent] = deque(maxlen=MOST_WAITING)
        self._followers: Followers[ModelEvent] = Followers()
        wake = history.attach(self)
        self._stores, self._wake = wake is not None, wake or (lambda: None)
        self._keep(ModelEvent(self._number(), "", 0, STOPPED, BEGAN))

    def observe(self, news: News) -> None:
        """Never waits."""
        event = self._lives.take(news, self._number())
        self._keep(event)
        self._followers.tell(event)

    def follow(self) -> Subscription[ModelEvent]:
        """All events from now on; to be closed by who asked."""
        return self._followers.follow()

    async def span(self, name: str, models: Iterable[str]) -> Span:
        """A range of `RANGES` that ends now, for these models and those that are no more."""
        end = max(self._clock() // 1000, self._last)
        begin = end - RANGES[name] * 1_000_000
        known = list(models)
        stored = [*map(_event, await self._fetch(_within(begin, end)))]
        if len(stored) == MOST_SHOWN:
            begin = stored[-1].id
        before = map(_event, await self._fetch(_before(begin, known)))
        remembered = (event for ring in self._recent.values() for event in ring if event.id <= end)
        found = {event.id: event for event in (*stored, *before, *remembered)}
        tracks = _by_model([found[id] for id in sorted(found)], known)
        shown = {
            model: _shown(model, events, begin)
            for model, events in tracks.items()
            if model in known or (events and events[-1].id >= begin)
        }
        return Span(begin / 1e6, end / 1e6, shown)

    async def _fetch(self, sql: Sql) -> Sequence[tuple[Any, ...]]:
        return (await self._history.fetch(sql) if self._stores else None) or ()

    def __len__(self) -> int:
        return len(self._waiting)

    async def write(self, store: Store) -> None:
        """Raises what the store raises; what could not be written waits on."""
        taken = list(self._waiting)
        await store.insert([(*event, event.breaker) for event in taken], _INSERT)
        for event in taken:
            if self._waiting and self._waiting[0] is event:  # else it has made room for another meanwhile
                self._waiting.popleft()

    async def prune(self, store: Store, horizon: float) -> bool:
        """What is too old, and the oldest where there are too many."""
        nth = "SELECT timestamp FROM model_events ORDER BY timestamp DESC LIMIT 1 OFFSET ?"
        old = f"SELECT timestamp FROM model_events WHERE timestamp < ? OR timestamp <= ({nth}) LIMIT ?"
        values = (int(horizon * 1e6), MOST_KEPT, PRUNED_AT_ONCE)
        return await store.delete(f"DELETE FROM model_events WHERE timestamp IN ({old})", values) == PRUNED_AT_ONCE

    def _keep(self, event: ModelEvent) -> None:
        ring = self._recent.get(event.model)
        if ring is None:
            if len(self._recent) >= MOST_MODELS:
                silent = min(self._recent, key=lambda model: self._recent[model][-1].id if model else event.id)
                del self._recent[silent]
                self._lives.forget(silent)
            ring = self._recent[event.model] = deque(maxlen=MOST_REMEMBERED)
        ring.append(event)
        if self._stores:
            self._waiting.append(event)
            self._wake()

    def _number(self) -> int:
        """Rises, whatever the clock does."""
        self._last = max(self._last + 1, self._clock() // 1000)
        return self._last


def _within(begin: int, end: int) -> Sql:
    """The newest, newest first."""
    return (
        f"SELECT {_COLUMNS} FROM model_events WHERE timestamp >= ? AND timestamp <= ? "
        f"ORDER BY timestamp DESC LIMIT {MOST_SHOWN}",
        (begin, end),
    )


def _before(begin: int, models: Sequence[str]) -> Sql:
    """The last of each model and of each breaker; one look into the index for each."""
    last = "SELECT max(timestamp) FROM model_events WHERE model = m.value AND breaker = b.value AND timestamp < ?"
    return (
        f"SELECT {_COLUMNS} FROM json_each(?) m, json_each('[0, 1]') b JOIN model_events ON timestamp = ({last})",
        (orjson.dumps(["", *models]).decode(), begin),
    )


def _event(cells: Sequence[Any]) -> ModelEvent:
    return ModelEvent(*cells)


def _by_model(events: Iterable[ModelEvent], models: Iterable[str]) -> Track:
    """In their order. Of what ran when a gateway began anew, that says that it runs no more."""
    tracks: Track = {model: [] for model in models}
    for event in events:
        if event.model:
            tracks.setdefault(event.model, []).append(event)
            continue
        for model, track in tracks.items():
            track += _ended(event, model, track)
    return tracks


def _ended(began: ModelEvent, model: str, track: Sequence[ModelEvent]) -> list[ModelEvent]:
    last = {event.breaker: event for event in track}
    closed = {False: STOPPED, True: f"{BREAKER}closed"}
    return [
        began._replace(model=model, spawn=event.spawn, state=closed[breaker])
        for breaker, event in last.items()
        if event.state not in AT_REST
    ]


def _shown(model: str, track: Sequence[ModelEvent], begin: int) -> list[dict[str, Any]]:
    """A breaker that is closed at the beginning is not worth a line; a model of which nothing is known is stopped."""
    earlier = {event.breaker: event for event in takewhile(lambda event: event.id < begin, track)}
    first = [earlier.get(False) or ModelEvent(begin, model, 0, STOPPED)]
    if (breaker := earlier.get(True)) and breaker.state not in AT_REST:
        first.append(breaker)
    return [event.shown() for event in (*sorted(first), *(event for event in track if event.id >= begin))]
