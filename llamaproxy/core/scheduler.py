"""The scheduler: events in, effects out.

Owns every decision about requests, asks `room` who is started, drained and stopped for them, and has `orders` do what
people and a new configuration ask for. It has no clock, socket or lock: `handle` takes the time, never waits, and
leaves the state consistent. After every event `_settle` brings about what the laws of the contract ask for:

* no backend is started beyond `models_max` and the budgets, remote ones aside; who leaves counts until it is gone;
* a backend with work in flight is never stopped, one that is loading is never evicted;
* every request is granted or rejected exactly once, and every grant is released exactly once;
* no room stays unused while somebody is waiting for it, and nobody waits who can never have any.
"""

from collections.abc import Mapping
from typing import assert_never

from llamaproxy.config import BreakerConfig, LimitsConfig
from llamaproxy.core.admission import Admission, isolated
from llamaproxy.core.backend import Backend, Waiter
from llamaproxy.core.breaker import BreakerState
from llamaproxy.core.events import (
    FAILURE,
    SUCCESS,
    BackendAnswered,
    BackendExited,
    BackendReady,
    BreakerResetRequested,
    DrainBegun,
    Effect,
    Event,
    FootprintKnown,
    Grant,
    LeaseReleased,
    ModelsChanged,
    Reject,
    RequestArrived,
    RequestLeft,
    RestartRequested,
    ShutdownDue,
    StartRequested,
    StopReason,
    StopRequested,
    TimePassed,
)
from llamaproxy.core.orders import Orders
from llamaproxy.core.room import Room
from llamaproxy.core.roster import Roster
from llamaproxy.core.states import BackendState
from llamaproxy.core.waiting import WaitingRoom, patience
from llamaproxy.errors import ModelOutOfMemory, QueueTimeout
from llamaproxy.modelconfig import ModelConfig


class Scheduler:
    """Queues, leases and backends of all models. Only `handle` changes them, and `grants`, which takes the commonest of
    all arrivals.

    `backends` are there by model, and one that was removed until its process is gone; they are for looking at.
    `wake_at` is when TimePassed is due, if nothing happens before.
    """

    def __init__(self, models: Mapping[str, ModelConfig], limits: LimitsConfig, breaker: BreakerConfig) -> None:
        self._roster = Roster(models, breaker)
        self.backends: Mapping[str, Backend] = self._roster.backends
        self._room = Room(limits)
        self._waiting = WaitingRoom()
        self._admission = Admission(limits, self._room, self._waiting)
        self._orders = Orders(self._roster, self._room, self._waiting, self._admission)
        self._granted: dict[str, tuple[Backend, float]] = {}
        self.wake_at: float | None = None

    @property
    def queued(self) -> int:
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        return len(self._granted)

    @property
    def live(self) -> int:
        """Backends that are not STOPPED: here they have, or may have, a process."""
        return self._room.live

    def position(self, request: str, model: str, now: float) -> int:
        """Of a request in the queue of its model; 1 is the next, and who does not wait at all."""
        turns = self.backends[model].in_turn(now, self._room.limits.max_wait)
        return next((place for place, waiter in enumerate(turns, 1) if waiter.request == request), 1)

    def grants(self, event: RequestArrived, now: float) -> bool:
        """Grant a place that is there, where nothing speaks against it and nothing else can follow.

        False: nothing has happened, and `handle` must be told of the arrival.
        """
        backend = self.backends.get(event.model)
        if backend is None or backend.removed or self._admission.closing or not backend.breaker.closed:
            return False
        if not backend.serves_at_once(event.light, event.exclusive):
            return False
        self._lease(backend, event, now)
        return True

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take in what happened at `now` and return what shall happen, in order."""
        out: list[Effect] = []
        match event:
            case RequestArrived():
                if self._arrived(event, now, out):
                    return out
            case LeaseReleased():
                if self._released(event, now, out):
                    return out
            case RequestLeft():
                self._waiting.leave(event.request)
            case BackendAnswered():
                self._answered(event.request)
            case BackendReady():
                self._ready(event, now)
            case BackendExited():
                self._exited(event, now, out)
            case StartRequested():
                self._orders.start(event.model, now)
            case StopRequested():
                self._orders.stop(event.model, out)
            case RestartRequested():
                self._orders.restart(event.model, now, out)
            case BreakerResetRequested():
                self._orders.reset(event.model)
            case FootprintKnown():
                if backend := self.backends.get(event.model):
                    self._room.weigh(backend, event.footprint, event.measured)
            case ModelsChanged():
                self._orders.reconfigure(event, now, out)
            case DrainBegun():
                self._orders.close()
            case ShutdownDue():
                self._orders.shut_down(out)
            case TimePassed():
                pass
            case _:
                assert_never(event)
        self._settle(now, out)
        due = (self._waiting.next_deadline(), self._room.wake_at)
        self.wake_at = min((time for time in due if time is not None), default=None)
        return out

    # Requests

    def _arrived(self, event: RequestArrived, now: float, out: list[Effect]) -> bool:
        """Grant, queue or reject; True where nothing else can follow from the arrival."""
        backend = self.backends.get(event.model)
        at_once = backend is not None and backend.serves_at_once(event.light, event.exclusive)
        if error := self._admission.refusal(backend, event, at_once, now):
            out.append(Reject(event.request, error))
            if backend:
                self._isolate_if_open(backend, now, out)
            return len(out) == 1
        assert backend
        if at_once:
            self._grant(backend, event, now, out)
            return True
        since = now if event.since is None else event.since
        waiter = Waiter(event.request, since, event.deadline, event.light, event.exclusive, event.priority)
        self._waiting.add(backend, waiter)
        return False

    def _grant(self, backend: Backend, to: RequestArrived | Waiter, now: float, out: list[Effect]) -> None:
        self._lease(backend, to, now)
        out.append(Grant(to.request, backend.name, backend.spawn))

    def _lease(self, backend: Backend, to: RequestArrived | Waiter, now: float) -> None:
        backend.add_lease(to.request, to.light, to.exclusive)
        backend.breaker.probe_begun(to.request, now)
        self._granted[to.request] = (backend, now)

    def _answered(self, request: str) -> None:
        if (grant := self._granted.get(request)) and grant[0].is_judged_by(request):
            grant[0].breaker.answered()

    def _released(self, event: LeaseReleased, now: float, out: list[Effect]) -> bool:
        """True where nothing else can follow: nobody waits for the place."""
        request, outcome, reason = event
        backend, since = self._granted.pop(request)
        if request in backend.leases:
            light = backend.end_lease(request, now)
            if outcome is SUCCESS and not backend.condemned:
                backend.breaker.succeeded()
                if not light:
                    backend.measured_service(now - since)
            elif outcome is FAILURE and not backend.condemned:
                backend.breaker.request_failed(now, reason)
                self._isolate_if_open(backend, now, out)
        backend.breaker.probe_left(request)
        return not (out or self._waiting.any_wanted) and self._room.at_rest(backend, now)

    # Backends

    def _ready(self, event: BackendReady, now: float) -> None:
        backend = self._roster.process(event.model, event.spawn)
        if backend is None or backend.state is not BackendState.STARTING:
            return
        backend.move(BackendState.READY)
        backend.ready_since = backend.idle_since = now
        backend.measured_load(now - backend.started_at)
        backend.cramped = False
        backend.breaker.started()
        self._waiting.want_no_more(backend)

    def _exited(self, event: BackendExited, now: float, out: list[Effect]) -> None:
        backend = self._roster.process(event.model, event.spawn)
        if backend is None or backend.state is BackendState.STOPPED:
            return
        died_in, condemned, outdated = backend.state, backend.condemned, backend.outdated
        self._room.gone(backend, now)
        self._roster.drop_if_removed(backend)
        if died_in is BackendState.STOPPING or outdated:
            return
        backend.last_words = event.error.detail
        if died_in is BackendState.STARTING:
            self._start_failed(backend, event, now, out)
        elif not condemned and not event.blameless:
            backend.breaker.request_failed(now, event.error.message)
            self._isolate_if_open(backend, now, out)

    def _start_failed(self, backend: Backend, event: BackendExited, now: float, out: list[Effect]) -> None:
        """Those who waited for it wait on where another try may help."""
        backend.cramped = isinstance(event.error, ModelOutOfMemory) and self._room.crowded_out(backend)
        if backend.cramped:
            return
        if not event.blameless:
            backend.breaker.start_failed(now, event.error.message)
        if not event.retry or backend.breaker.state(now) is not BreakerState.CLOSED:
            self._waiting.reject_all(backend, event.error, out)

    def _isolate_if_open(self, backend: Backend, now: float, out: list[Effect]) -> None:
        """An open breaker empties the queue, and the process that earned it is replaced."""
        if backend.breaker.state(now) is BreakerState.OPEN:
            self._waiting.reject_all(backend, isolated(backend, now), out)
            if backend.state in (BackendState.READY, BackendState.DRAINING):
                self._room.drain(backend, StopReason.UNHEALTHY, out)

    # What follows

    def _settle(self, now: float, out: list[Effect]) -> None:
        self._expire(now, out)
        for backend in self._waiting.wanted():
            self._serve(backend, now, out)
        for backend in self._room.arrange(self._waiting.cold(), now, out):
            self._waiting.want_no_more(backend)
            self._serve(backend, now, out)
        if walled := self._room.walled(self._waiting.cold()):
            for backend, error in walled:
                self._waiting.reject_all(backend, error, out)
            self._settle(now, out)

    def _expire(self, now: float, out: list[Effect]) -> None:
        for backend, waiter in self._waiting.expire(now):
            backend.breaker.probe_left(waiter.request)
            message = f"no capacity for {backend.name} within {now - waiter.since:.1f} s"
            out.append(Reject(waiter.request, QueueTimeout(message, retry_after=patience(backend))))

    def _serve(self, backend: Backend, now: float, out: list[Effect]) -> None:
        """Grant what a READY backend has room for, in order.

        Nobody overtakes one who waits to have the backend alone, or it would never be.
        """
        if backend.state is not BackendState.READY:
            return
        for waiter in backend.in_turn(now, self._room.limits.max_wait):
            if backend.has_room(waiter.light, waiter.exclusive):
                self._waiting.take(waiter.request)
                self._grant(backend, waiter, now, out)
            elif waiter.exclusive:
                return
