"""The scheduler: events in, effects out.

Owns every decision about who is served, started, drained and stopped. It has no clock, socket or lock: `handle`
takes the time, never waits, and leaves the state consistent. After every event `_settle` brings about what the laws
of the contract ask for:

* backends that are STARTING, READY, DRAINING or STOPPING are never more than `models_max`;
* a backend with work in flight is never stopped, one that is loading is never evicted;
* every request is granted or rejected exactly once, and every grant is released exactly once;
* no room stays unused while somebody is waiting for it.
"""

from collections.abc import Mapping
from typing import assert_never

from llamaproxy.config import BreakerConfig, LimitsConfig, ModelConfig
from llamaproxy.core import eviction
from llamaproxy.core.backend import Backend, Waiter
from llamaproxy.core.breaker import Breaker, BreakerState
from llamaproxy.core.events import (
    BackendAnswered,
    BackendExited,
    BackendReady,
    Drain,
    DrainBegun,
    Effect,
    Event,
    Grant,
    LeaseReleased,
    Outcome,
    Reject,
    RequestArrived,
    RequestLeft,
    Resume,
    ShutdownDue,
    Start,
    StartRequested,
    Stop,
    StopReason,
    StopRequested,
    TimePassed,
)
from llamaproxy.core.states import BackendState
from llamaproxy.core.waiting import WaitingRoom, patience
from llamaproxy.errors import GatewayError, ModelNotFound, QueueFull, QueueTimeout, ShuttingDown, Unavailable

_MAKING_ROOM = (StopReason.EVICTED, StopReason.FAIRNESS)


class Scheduler:
    """Queues, leases and backends of all models. `handle` is the only way to change them."""

    def __init__(self, models: Mapping[str, ModelConfig], limits: LimitsConfig, breaker: BreakerConfig) -> None:
        self._limits = limits
        self.backends = {name: Backend(name, config, Breaker(breaker)) for name, config in models.items()}
        self._live: dict[str, Backend] = {}
        self._waiting = WaitingRoom()
        self._granted: dict[str, tuple[Backend, int, float]] = {}
        self._closing = False
        self._closed = False
        self._wake_at: float | None = None

    @property
    def queued(self) -> int:
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        return len(self._granted)

    @property
    def live(self) -> int:
        """Backends that have, or may have, a process."""
        return len(self._live)

    @property
    def wake_at(self) -> float | None:
        """When TimePassed is due, if nothing happens before."""
        return self._wake_at

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take in what happened at `now` and return what shall happen, in order."""
        out: list[Effect] = []
        match event:
            case RequestArrived():
                if self._arrived(event, now, out):
                    return out
            case LeaseReleased():
                self._released(event, now, out)
            case RequestLeft():
                self._left(event.request)
            case BackendAnswered():
                self._answered(event.request)
            case BackendReady():
                self._ready(event, now)
            case BackendExited():
                self._exited(event, now, out)
            case StartRequested():
                self._start_requested(event.model, now)
            case StopRequested():
                self._stop_requested(event.model, out)
            case DrainBegun():
                self._closing = True
            case ShutdownDue():
                self._shut_down(out)
            case TimePassed():
                pass
            case _:
                assert_never(event)
        self._settle(now, out)
        return out

    # Requests

    def _arrived(self, event: RequestArrived, now: float, out: list[Effect]) -> bool:
        """Grant, queue or reject; True where nothing else can follow from the arrival."""
        backend = self.backends.get(event.model)
        if error := self._refusal(backend, event, now):
            out.append(Reject(event.request, error))
            return True
        assert backend
        since = now if event.since is None else event.since
        waiter = Waiter(event.request, since, event.deadline, event.light, event.exclusive)
        if backend.serves_at_once(event.light, event.exclusive):
            self._grant(backend, waiter, now, out)
            return True
        self._waiting.add(backend, waiter)
        return False

    def _refusal(self, backend: Backend | None, event: RequestArrived, now: float) -> GatewayError | None:
        """Why the request may not even wait, if so."""
        if backend is None:
            return ModelNotFound(f"there is no model {event.model!r}", param="model")
        if self._closing:
            return ShuttingDown("the gateway is shutting down", retry_after=5)
        if not backend.breaker.admits(event.request, now):
            return _isolated(backend, now)
        error = self._overflow(backend, event.light)
        if error:
            backend.breaker.probe_left(event.request)
        return error

    def _overflow(self, backend: Backend, light: bool) -> GatewayError | None:
        if backend.serves_at_once(light):
            return None
        own = backend.config.queue_size
        if len(self._waiting) >= self._limits.queue_size or (own is not None and len(backend.queue) >= own):
            return QueueFull("too many requests are waiting", retry_after=patience(backend))
        if self._walled_in(backend):
            return Unavailable(f"{backend.name} cannot be started: every place is taken by a pinned model")
        return None

    def _walled_in(self, backend: Backend) -> bool:
        """Whether no room can ever come free, because the models that have it are pinned."""
        if backend.state is not BackendState.STOPPED or len(self._live) < self._limits.models_max:
            return False
        staying = (BackendState.READY, BackendState.STARTING)
        return all(other.config.pinned and other.state in staying for other in self._live.values())

    def _grant(self, backend: Backend, waiter: Waiter, now: float, out: list[Effect]) -> None:
        backend.add_lease(waiter.request, waiter.light, waiter.exclusive)
        self._granted[waiter.request] = (backend, backend.spawn, now)
        out.append(Grant(waiter.request, backend.name, backend.spawn))

    def _reject(self, request: str, error: GatewayError, out: list[Effect]) -> None:
        self._left(request)
        out.append(Reject(request, error))

    def _reject_all(self, backend: Backend, error: GatewayError, out: list[Effect]) -> None:
        for request in list(backend.queue):
            self._reject(request, error.again(), out)
        self._waiting.want_no_more(backend)

    def _left(self, request: str) -> None:
        if taken := self._waiting.take(request):
            taken[0].breaker.probe_left(request)

    def _answered(self, request: str) -> None:
        if (grant := self._granted.get(request)) and grant[0].spawn == grant[1]:
            grant[0].breaker.answered()

    def _released(self, event: LeaseReleased, now: float, out: list[Effect]) -> None:
        backend, _, since = self._granted.pop(event.request)
        if event.request in backend.leases:
            backend.end_lease(event.request, now)
            if event.outcome is Outcome.SUCCESS:
                backend.measured_service(now - since)
                backend.breaker.succeeded()
            elif event.outcome is Outcome.FAILURE:
                backend.breaker.request_failed(now, event.reason)
                self._isolate_if_open(backend, now, out)
        backend.breaker.probe_left(event.request)

    # Backends

    def _ready(self, event: BackendReady, now: float) -> None:
        backend = self.backends[event.model]
        if backend.spawn != event.spawn or backend.state is not BackendState.STARTING:
            return
        backend.move(BackendState.READY)
        backend.ready_since = backend.idle_since = now
        backend.measured_load(now - backend.started_at)
        backend.breaker.started()
        self._waiting.want_no_more(backend)

    def _exited(self, event: BackendExited, now: float, out: list[Effect]) -> None:
        backend = self.backends[event.model]
        if backend.spawn != event.spawn or backend.state is BackendState.STOPPED:
            return
        died_in = backend.state
        backend.gone(now)
        del self._live[backend.name]
        if died_in is BackendState.STARTING:
            backend.last_words = event.error.detail
            backend.breaker.start_failed(now, event.error.message)
            if not event.retry or backend.breaker.state(now) is not BreakerState.CLOSED:
                self._reject_all(backend, event.error, out)
        elif died_in is not BackendState.STOPPING:
            backend.last_words = event.error.detail
            backend.breaker.request_failed(now, event.error.message)
            self._isolate_if_open(backend, now, out)

    def _isolate_if_open(self, backend: Backend, now: float, out: list[Effect]) -> None:
        """An open breaker empties the queue, and the process that earned it is replaced."""
        if backend.breaker.state(now) is BreakerState.OPEN:
            self._reject_all(backend, _isolated(backend, now), out)
            if backend.state is BackendState.READY:
                self._drain(backend, StopReason.UNHEALTHY, out)

    def _start_requested(self, model: str, now: float) -> None:
        backend = self.backends[model]
        backend.breaker.reset()
        if backend.state not in (BackendState.STARTING, BackendState.READY) and not self._closing:
            self._waiting.want(backend, now)

    def _stop_requested(self, model: str, out: list[Effect]) -> None:
        backend = self.backends[model]
        self._reject_all(backend, Unavailable(f"{model} was stopped by request", retry_after=1), out)
        if backend.state is BackendState.STARTING:
            self._stop(backend, StopReason.REQUESTED, out)
        elif backend.state in (BackendState.READY, BackendState.DRAINING):
            self._drain(backend, StopReason.REQUESTED, out)

    def _shut_down(self, out: list[Effect]) -> None:
        self._closing = self._closed = True
        for backend in self._waiting.wanted():
            self._reject_all(backend, ShuttingDown("the gateway is shutting down", retry_after=5), out)
        for backend in self._live.values():
            if backend.state is not BackendState.STOPPING:
                self._stop(backend, StopReason.SHUTDOWN, out)

    def _start(self, backend: Backend, now: float, out: list[Effect]) -> None:
        backend.move(BackendState.STARTING)
        backend.spawn += 1
        backend.started_at = now
        self._live[backend.name] = backend
        out.append(Start(backend.name, backend.spawn))

    def _drain(self, backend: Backend, reason: StopReason, out: list[Effect], successor: str | None = None) -> None:
        """Stop it once nothing is in flight, which may be now."""
        backend.leaving, backend.successor = reason, successor
        if not backend.leases:
            self._stop(backend, reason, out, successor)
        elif backend.state is BackendState.READY:
            backend.move(BackendState.DRAINING)
            out.append(Drain(backend.name, backend.spawn, reason, successor))

    def _stop(self, backend: Backend, reason: StopReason, out: list[Effect], successor: str | None = None) -> None:
        backend.move(BackendState.STOPPING)
        backend.leaving = reason
        out.append(Stop(backend.name, backend.spawn, reason, successor))

    # What follows

    def _settle(self, now: float, out: list[Effect]) -> None:
        self._wake_at = None
        self._expire(now, out)
        self._serve(now, out)
        if not self._closed:
            self._make_room(now, out)
            self._retire(now, out)

    def _wake(self, at: float | None) -> None:
        if at is not None and (self._wake_at is None or at < self._wake_at):
            self._wake_at = at

    def _expire(self, now: float, out: list[Effect]) -> None:
        for request in self._waiting.overdue(now):
            taken = self._waiting.take(request)
            assert taken
            backend, waiter = taken
            backend.breaker.probe_left(request)
            message = f"no capacity for {backend.name} within {now - waiter.since:.1f} s"
            out.append(Reject(request, QueueTimeout(message, retry_after=patience(backend))))
        self._wake(self._waiting.next_deadline())

    def _serve(self, now: float, out: list[Effect]) -> None:
        """Grant what READY backends have room for, and stop DRAINING ones that nothing is left on."""
        for backend in self._waiting.wanted():
            if backend.state is BackendState.READY:
                self._serve_queue(backend, now, out)
        for backend in self._live.values():
            if backend.state is BackendState.DRAINING and not backend.leases:
                self._stop(backend, backend.leaving or StopReason.EVICTED, out, backend.successor)

    def _serve_queue(self, backend: Backend, now: float, out: list[Effect]) -> None:
        """In order; nobody overtakes one who waits to have the backend alone, or it would never be."""
        for waiter in list(backend.queue.values()):
            if backend.has_room(waiter.light, waiter.exclusive):
                self._waiting.take(waiter.request)
                self._grant(backend, waiter, now, out)
            elif waiter.exclusive:
                return

    def _make_room(self, now: float, out: list[Effect]) -> None:
        """Start whom there is room for, longest waiting first; make room for the others, once for each."""
        cold = self._waiting.cold()
        free = max(0, self._limits.models_max - len(self._live))
        for backend in cold[:free]:
            self._start(backend, now, out)
        unserved = cold[free:]
        leaving = [b for b in self._live.values() if b.state in (BackendState.DRAINING, BackendState.STOPPING)]
        self._resume(leaving, len(leaving) - len(unserved), now, out)
        for backend in unserved[len(leaving) :]:
            if not self._evict_for(backend, now, out):
                return

    def _evict_for(self, cold: Backend, now: float, out: list[Effect]) -> bool:
        """Send one backend away for `cold`, or set the alarm for when that may be possible."""
        victim, later = eviction.idle_victim(self._live.values(), self._limits, now)
        reason = StopReason.EVICTED
        overdue = (cold.wanted_since or now) + self._limits.max_wait
        self._wake(later)
        if not victim and overdue > now:
            self._wake(overdue)
        elif not victim:
            victim, later = eviction.busy_victim(self._live.values(), self._limits, now)
            reason = StopReason.FAIRNESS
            self._wake(later)
        if victim:
            self._drain(victim, reason, out, cold.name)
        return victim is not None

    def _resume(self, leaving: list[Backend], surplus: int, now: float, out: list[Effect]) -> None:
        """Call off drains for somebody who is no longer there."""
        for backend in leaving:
            if surplus > 0 and backend.state is BackendState.DRAINING and backend.leaving in _MAKING_ROOM:
                surplus -= 1
                backend.move(BackendState.READY)
                backend.leaving = None
                out.append(Resume(backend.name, backend.spawn))
                self._serve_queue(backend, now, out)

    def _retire(self, now: float, out: list[Effect]) -> None:
        """Stop READY backends whose time to live is over."""
        for backend in self._live.values():
            if backend.idle and backend.config.ttl is not None:
                end = backend.idle_since + backend.config.ttl
                if end <= now:
                    self._stop(backend, StopReason.TTL, out)
                else:
                    self._wake(end)


def _isolated(backend: Backend, now: float) -> Unavailable:
    return Unavailable(
        f"{backend.name} is isolated after repeated failures: {backend.breaker.reason}",
        retry_after=backend.breaker.retry_after(now),
        detail=backend.last_words,
    )
