"""What the scheduler remembers of one model's backend, and the questions it asks of it.

A record with small queries. Decisions belong to `scheduler` and `eviction`.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, field

from llamaproxy.core.breaker import Breaker
from llamaproxy.core.events import StopReason
from llamaproxy.core.footprint import Footprint
from llamaproxy.core.states import READY, BackendState, transition
from llamaproxy.modelconfig import ModelConfig

DEFAULT_SLOTS = 4
"""llama-server's number of slots when it is not told one."""

REMOTE_CONCURRENCY = 64
"""Leases at once on a server elsewhere: what it does with them is its own business."""

_UNHEALTHY = StopReason.UNHEALTHY
_NEWEST = 0.3
"""Weight of the newest measurement in a running average."""


@dataclass(slots=True)
class Waiter:
    """A queued request; `since` and `deadline` in seconds of the scheduler's clock."""

    request: str
    since: float
    deadline: float
    light: bool
    exclusive: bool = False
    priority: int = 0


@dataclass(slots=True)
class Backend:
    """One model. Times are seconds of the scheduler's clock; `load_seconds` and `service_seconds` are averages.

    `last_words` is what the engine printed before it last failed; `yielded_at`, when it last gave way to another model.
    `company` is how many neighbours it may have at its start, once it has died for want of memory beside more, and
    `cramped` says that it is being tried again for that. `removed`: the configuration does not know it any more.
    `held` is what its process takes, where that was started for what the model was before. `queue` is in the order of
    arrival, and `ranked` where another order is to be looked for.
    """

    name: str
    config: ModelConfig
    breaker: Breaker
    state: BackendState = BackendState.STOPPED
    spawn: int = 0
    leases: dict[str, bool] = field(default_factory=dict)
    occupied: int = 0
    exclusive: str | None = None
    queue: OrderedDict[str, Waiter] = field(default_factory=OrderedDict)
    start_wanted: float | None = None
    leaving: StopReason | None = None
    successor: str | None = None
    started_at: float = 0.0
    ready_since: float = 0.0
    idle_since: float = 0.0
    yielded_at: float = 0.0
    load_seconds: float | None = None
    service_seconds: float | None = None
    last_words: str | None = None
    footprint: Footprint | None = None
    measured: bool = False
    held: Footprint | None = None
    company: int | None = None
    cramped: bool = False
    removed: bool = False
    started_remote: bool = False
    ranked: bool = False

    @property
    def remote(self) -> bool:
        """It runs elsewhere: it takes nothing of this machine, so that nobody makes room for it, nor it for others.

        The configuration may have become another one since it was started.
        """
        return self.config.url is not None if self.state is BackendState.STOPPED else self.started_remote

    @property
    def concurrency(self) -> int:
        if concurrency := self.config.concurrency:
            return concurrency
        return REMOTE_CONCURRENCY if self.remote else 2 * (self.config.parallel or DEFAULT_SLOTS)

    @property
    def wanted_since(self) -> float | None:
        """Since when somebody has waited for this backend; None when nobody does.

        Who waited while it gave way had its turn: otherwise it would take back the place it made for another.
        """
        head = next(iter(self.queue.values())).since if self.queue else None
        first = min((t for t in (head, self.start_wanted) if t is not None), default=None)
        return None if first is None else max(first, self.yielded_at)

    @property
    def idle(self) -> bool:
        """Ready, with nothing in flight and nothing queued."""
        return self.state is BackendState.READY and not self.leases and not self.queue

    @property
    def stays(self) -> bool:
        """Whether it has a process, and nothing makes it leave."""
        return self.state in (BackendState.STARTING, BackendState.READY)

    @property
    def takes(self) -> Footprint:
        """The memory of its process, or of the one it would have."""
        return self.held or self.footprint or Footprint()

    @property
    def outdated(self) -> bool:
        """Whether its process was started for what the model was before."""
        return self.held is not None

    @property
    def condemned(self) -> bool:
        """The breaker opened because of this process, or the model is another by now.

        How it does until it is gone says nothing about the next.
        """
        return self.held is not None or self.leaving is _UNHEALTHY

    def is_judged_by(self, request: str) -> bool:
        """Whether what becomes of this request says something about the backend."""
        return request in self.leases and not self.condemned

    def move(self, target: BackendState) -> None:
        self.state = transition(self.state, target)

    def has_room(self, light: bool, exclusive: bool = False) -> bool:
        if self.exclusive or (exclusive and self.leases):
            return False
        return light or self.occupied < self.concurrency

    def serves_at_once(self, light: bool, exclusive: bool = False) -> bool:
        """Whether a request need not wait; light ones overtake all but those who wait to have the backend alone."""
        if self.queue and any(waiter.exclusive for waiter in self.queue.values()):
            return False
        return self.state is READY and self.has_room(light, exclusive)

    def add_lease(self, request: str, light: bool, exclusive: bool = False) -> None:
        if exclusive:
            self.exclusive = request
        self.leases[request] = light
        self.occupied += not light

    def end_lease(self, request: str, now: float) -> bool:
        """Returns whether it was a light one."""
        light = self.leases.pop(request)
        self.occupied -= not light
        if self.exclusive == request:
            self.exclusive = None
        self.idle_since = now
        return light

    def enqueue(self, waiter: Waiter) -> None:
        """Behind those who came before it: at the end, unless it is a replay."""
        self.ranked = bool(waiter.priority) or (self.ranked and bool(self.queue))
        younger = [other for other in self.queue.values() if other.since > waiter.since]
        self.queue[waiter.request] = waiter
        for other in younger:
            self.queue.move_to_end(other.request)

    def in_turn(self, now: float, max_wait: float) -> list[Waiter]:
        """Who is to be served, in order: who has waited longer than `max_wait`, so that nobody is passed over without
        end; then by priority. Equals as they came."""
        waiters = list(self.queue.values())
        if self.ranked:
            waiters.sort(key=lambda waiter: -waiter.priority if now - waiter.since < max_wait else -math.inf)
        return waiters

    def measured_load(self, seconds: float) -> None:
        self.load_seconds = _average(self.load_seconds, seconds)

    def measured_service(self, seconds: float) -> None:
        self.service_seconds = _average(self.service_seconds, seconds)

    def forget(self) -> None:
        """It is another model from now on, under the same name; a process that is left keeps what it takes."""
        self.held = None if self.state is BackendState.STOPPED else self.takes
        self.load_seconds = self.service_seconds = self.last_words = self.footprint = self.company = None
        self.measured = self.cramped = False
        self.breaker.reset()

    def gone(self, now: float) -> None:
        """The process is no more; leases on it end by themselves and mean nothing here."""
        self.move(BackendState.STOPPED)
        self.leases.clear()
        self.occupied = 0
        self.exclusive = None
        self.leaving = self.successor = self.held = None
        self.idle_since = now


def _average(old: float | None, new: float) -> float:
    return new if old is None else old + _NEWEST * (new - old)
