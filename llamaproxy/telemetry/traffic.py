"""What is counted of requests and backends, from the first of each.

Owns the counters, the histograms, and the rates of the last minute. On the way of a request it does nothing but keep
the row that has ended: rows are counted when somebody asks, when a second or two have passed, or when many wait. Names
in labels are those of the configuration: everything else is `other`, nothing is "".
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from llamaproxy.core.events import BackendExited, BackendReady, News, Start, Stop
from llamaproxy.core.rates import Rate, Rates
from llamaproxy.telemetry.ledger import RequestRow, RequestState
from llamaproxy.telemetry.metrics import Counter, Histogram, counters, histograms

OTHER = "other"
MOST_WAITING = 256
"""Rows that wait to be counted, which takes them less than a millisecond."""
_MOST_BOOKS = 20_000
_STATUSES = frozenset(map(int, HTTPStatus))

_WAITS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300)
_DURATIONS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_LOADS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 300)

_Name = tuple[str | None, str | None, str, RequestState, int | None]


class _Book:
    """The children for rows that have these names, state and status in common."""

    __slots__ = ("duration", "first_byte", "key", "model", "queue", "replays", "requests", "tokens")

    def __init__(self, traffic: "Traffic", row: RequestRow) -> None:
        model, key = traffic.model(row.model), traffic.key(row.key)
        status = "" if row.status is None else str(row.status) if row.status in _STATUSES else OTHER
        self.requests: Counter = traffic.requests.child(model, row.endpoint, row.state.value, status)
        self.queue: Histogram = traffic.queue.child(model)
        self.first_byte: Histogram = traffic.first_byte.child(model)
        self.duration: Histogram = traffic.duration.child(model, row.endpoint)
        self.replays: Counter = traffic.replays.child(model)
        self.tokens = tuple(traffic.tokens.child(model, key, kind) for kind in ("prompt", "cached", "completion"))
        self.model, self.key = model, key

    def count(self, rows: list[RequestRow]) -> int:
        """Returns how many tokens were processed for them."""
        self.requests.value += len(rows)
        self.replays.value += sum([row.replays for row in rows])
        self.queue.observe_all([row.queue_ms / 1000 for row in rows if row.queue_ms is not None])
        self.first_byte.observe_all([row.ttfb_ms / 1000 for row in rows if row.ttfb_ms is not None])
        self.duration.observe_all([row.duration_ms / 1000 for row in rows if row.duration_ms is not None])
        prompt = sum([row.prompt_tokens or 0 for row in rows])
        cached = sum([row.cached_tokens or 0 for row in rows])
        completion = sum([row.completion_tokens or 0 for row in rows])
        for counter, tokens in zip(self.tokens, (prompt, cached, completion), strict=True):
            counter.value += tokens
        return prompt + completion


class Traffic:
    """Told of every row that has ended, and of every start and end of a backend; neither waits or raises."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._models: frozenset[str] = frozenset()
        self._keys: frozenset[str] = frozenset()
        self._waiting: list[RequestRow] = []
        self._books: dict[_Name, _Book] = {}
        self._starting: dict[tuple[str, int], float] = {}
        self._told_to_stop: set[tuple[str, int]] = set()
        self._of_models, self._of_keys, self._of_all = Rates(), Rates(), Rates()
        self._latencies: dict[str, float] = {}
        self.requests = counters(
            "llamaproxy_requests_total", "Requests that have ended", "model", "endpoint", "state", "status"
        )
        self.tokens = counters(
            "llamaproxy_tokens_total", "Tokens; those of a prompt count its cached ones, too", "model", "key", "kind"
        )
        self.queue = histograms("llamaproxy_queue_seconds", "Time that requests waited for a place", _WAITS, "model")
        self.first_byte = histograms(
            "llamaproxy_time_to_first_byte_seconds",
            "Time from a request to the first byte of its answer",
            _DURATIONS,
            "model",
        )
        self.duration = histograms(
            "llamaproxy_request_seconds", "Time from a request to its end", _DURATIONS, "model", "endpoint"
        )
        self.starts = counters("llamaproxy_backend_starts_total", "Starts of backends", "model", "result")
        self.loads = histograms(
            "llamaproxy_backend_load_seconds", "Time from a backend's start to its readiness", _LOADS, "model"
        )
        self.evictions = counters("llamaproxy_evictions_total", "Backends that were told to stop", "model", "reason")
        self.replays = counters("llamaproxy_replays_total", "Requests that were sent to another backend", "model")
        self._refusals = counters(
            "llamaproxy_refused_requests_total", "Requests refused at the door; of many not each has a row", "status"
        )
        self._families = (
            *(self.requests, self.tokens, self.queue, self.first_byte, self.duration),
            *(self.starts, self.loads, self.evictions, self.replays, self._refusals),
        )

    def allow(self, models: Iterable[str], keys: Iterable[str]) -> None:
        """The names that may stand in labels from now on. What was counted for others is forgotten."""
        self.settle()
        self._models, self._keys = frozenset(models), frozenset(keys)
        self._books.clear()
        self._latencies = {model: latency for model, latency in self._latencies.items() if model in self._models}
        for family in self._families:
            family.keep("model", lambda name: name in {*self._models, OTHER, ""})
            family.keep("key", lambda name: name in {*self._keys, OTHER, ""})
        # Prometheus sees no increase in a series that was not there: failures that came first would alarm nobody.
        for model in sorted(self._models):
            self.starts.child(model, "failed")

    def model(self, name: str | None) -> str:
        """As it stands in a label."""
        return "" if name is None else name if name in self._models else OTHER

    def key(self, name: str | None) -> str:
        """As it stands in a label."""
        return "" if name is None else name if name in self._keys else OTHER

    # Requests

    def ended(self, row: RequestRow) -> None:
        """A complete row, which does not change any more."""
        self._waiting.append(row)
        if len(self._waiting) >= MOST_WAITING:
            self.settle()

    def refused(self, status: int) -> None:
        """A request was refused before anything was known of it but its head."""
        self._refusals.child(str(status)).value += 1

    def settle(self) -> None:
        """Count the rows that wait for it."""
        alike: defaultdict[_Name, list[RequestRow]] = defaultdict(list)
        for row in self._waiting:
            alike[row.model, row.key, row.endpoint, row.state, row.status].append(row)
            if row.ttfb_ms is not None:
                self._latencies[self.model(row.model)] = row.ttfb_ms
        self._waiting = []
        now = self._clock()
        for name, rows in alike.items():
            book = self._books.get(name) or self._open(name, rows[0])
            self._count_in_rates(book, now, len(rows), book.count(rows))

    def _count_in_rates(self, book: _Book, now: float, requests: int, tokens: int) -> None:
        self._of_all.add("", now, requests, tokens)
        if book.model:
            self._of_models.add(book.model, now, requests, tokens)
        if book.key:
            self._of_keys.add(book.key, now, requests, tokens)

    def _open(self, name: _Name, row: RequestRow) -> _Book:
        if len(self._books) >= _MOST_BOOKS:
            self._books.clear()
        book = self._books[name] = _Book(self, row)
        return book

    # Backends

    def observe(self, news: News) -> None:
        """What a backend does, in the order in which it happens."""
        life = (news.model, news.spawn)
        model = self.model(news.model)
        match news:
            case Start():
                self._starting[life] = self._clock()
            case Stop():
                self.evictions.child(model, news.reason.value).value += 1
                if life in self._starting:
                    self._told_to_stop.add(life)
            case BackendReady():
                if (since := self._starting.pop(life, None)) is not None:
                    self.loads.child(model).observe(self._clock() - since)
                    self.starts.child(model, "ready").value += 1
                self._told_to_stop.discard(life)
            case BackendExited():
                if self._starting.pop(life, None) is not None:
                    self.starts.child(model, "stopped" if life in self._told_to_stop else "failed").value += 1
                self._told_to_stop.discard(life)

    # What there is to see

    def rate(self) -> Rate:
        """Of all requests, in the last minute."""
        self.settle()
        return self._of_all.of("", self._clock())

    def rates(self) -> tuple[dict[str, Rate], dict[str, Rate]]:
        """Of the last minute, by model and by key."""
        self.settle()
        now = self._clock()
        return self._of_models.all(now), self._of_keys.all(now)

    def per_minute(self) -> dict[str, Any]:
        """Of the last minute, as pages and programs are told: of all, and by model and by key."""
        models, keys = self.rates()
        return {
            **asdict(self.rate()),
            "models": {name: asdict(rate) for name, rate in models.items()},
            "keys": {name: asdict(rate) for name, rate in keys.items()},
        }

    def latency(self, model: str) -> float | None:
        """Milliseconds from the model's last request to the first byte of its answer, its waits included."""
        self.settle()
        return self._latencies.get(model)

    def families(self) -> Iterator[str]:
        """Everything that was counted, as Prometheus reads it, one family after the other."""
        self.settle()
        for family in self._families:
            yield family.text()
