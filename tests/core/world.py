"""A small world that carries out what the scheduler decides, and holds it to its laws after every event.

It keeps its own books: processes are counted from effects and exits, requests from arrivals and answers. The scheduler's
books are read only where they must agree with these; its circuit breakers are taken as they are.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import assert_never

from llamaproxy.config import BreakerConfig, LimitsConfig, ModelConfig
from llamaproxy.core.breaker import BreakerState
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
from llamaproxy.core.scheduler import Scheduler
from llamaproxy.errors import ModelNotFound, ModelStartFailed, QueueTimeout, ShuttingDown

SLOTS = 4
TO_MAKE_ROOM = (StopReason.EVICTED, StopReason.FAIRNESS)


class Phase(Enum):
    STARTING = auto()
    READY = auto()
    DRAINING = auto()
    STOPPING = auto()


@dataclass(eq=False)
class Process:
    """`leases` says of each whether it is light; `unhealthy`: a breaker opened because of this process."""

    spawn: int
    phase: Phase = Phase.STARTING
    leases: dict[str, bool] = field(default_factory=dict)
    ready_since: float = 0.0
    idle_since: float = 0.0
    leaving: StopReason | None = None
    unhealthy: bool = False

    @property
    def occupied(self) -> int:
        return sum(not light for light in self.leases.values())


@dataclass(eq=False)
class Request:
    """One wait: a replay is another, under the same name. `order` counts arrivals."""

    name: str
    model: str
    since: float
    deadline: float
    light: bool
    order: int

    @property
    def seniority(self) -> tuple[float, int]:
        return self.since, self.order


class World:
    """`now` is moved by `advance` only; every other verb is one event."""

    def __init__(self, models: Mapping[str, ModelConfig], limits: LimitsConfig, breaker: BreakerConfig) -> None:
        assert limits.linger is not None, "the laws need to know it"
        self.models = dict(models)
        self.limits = limits
        self.linger = limits.linger
        self.scheduler = Scheduler(models, limits, breaker)
        self.now = 0.0
        self.processes: dict[str, Process] = {}
        self.waiting: dict[str, Request] = {}
        self.holding: dict[str, Request] = {}
        self.lost: set[str] = set()
        self.wishes: dict[str, float] = {}
        self.yielded: dict[str, float] = {}
        self.owed: dict[str, list[Request]] = {}
        self.spawns: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.timeouts: list[Request] = []
        self.closing = self.closed = False
        self._arrivals = 0

    # What can happen

    def arrive(self, model: str, within: float, light: bool = False, name: str = "", since: float | None = None) -> str:
        self._arrivals += 1
        name = name or f"r{self._arrivals}"
        seniority = self.now if since is None else since
        self.waiting[name] = Request(name, model, seniority, self.now + within, light, self._arrivals)
        self._happens(RequestArrived(name, model, self.now + within, light, since))
        return name

    def arrive_for_nothing(self) -> None:
        """A request for a model that does not exist is answered, and changes nothing."""
        [effect] = self.scheduler.handle(RequestArrived("stray", "no-such-model", self.now + 1), self.now)
        assert isinstance(effect, Reject)
        assert isinstance(effect.error, ModelNotFound)

    def leave(self, name: str) -> None:
        del self.waiting[name]
        self._happens(RequestLeft(name))

    def leave_late(self, name: str) -> None:
        """The news that a client left comes after its request was answered."""
        assert name not in self.waiting
        self._happens(RequestLeft(name))

    def release(self, name: str, outcome: Outcome, replay: bool = False) -> None:
        request = self.holding.pop(name)
        self.lost.discard(name)
        process = self.processes.get(request.model)
        if process and name in process.leases:
            del process.leases[name]
            process.idle_since = self.now
        self._happens(LeaseReleased(name, outcome, "it broke"))
        if replay:
            self.arrive(request.model, 60.0, request.light, name, request.since)

    def answer(self, name: str) -> None:
        assert name in self.holding
        self._happens(BackendAnswered(name))

    def finish_start(self, model: str) -> None:
        process = self.processes[model]
        assert process.phase is Phase.STARTING
        process.phase = Phase.READY
        process.ready_since = process.idle_since = self.now
        self.wishes.pop(model, None)
        self._happens(BackendReady(model, process.spawn))

    def exit(self, model: str, retry: bool = False) -> None:
        """The end of a process in any phase: a failed start, a crash, or the end of a stop."""
        process = self.processes.pop(model)
        self.lost.update(process.leases)
        if process.phase is Phase.STARTING and not retry:
            self.wishes.pop(model, None)
        self._happens(BackendExited(model, process.spawn, ModelStartFailed(f"{model} is gone"), retry))

    def hear_old_news(self, model: str, spawn: int, ready: bool) -> None:
        """News of a process that is long gone, or that is not starting any more."""
        process = self.processes.get(model)
        assert process is None or process.spawn != spawn
        error = ModelStartFailed("old news")
        self._happens(BackendReady(model, spawn) if ready else BackendExited(model, spawn, error))

    def wish(self, model: str) -> None:
        process = self.processes.get(model)
        if not self.closing and (process is None or process.phase in (Phase.DRAINING, Phase.STOPPING)):
            self.wishes.setdefault(model, self.now)
        self._happens(StartRequested(model))

    def dismiss(self, model: str) -> None:
        self.wishes.pop(model, None)
        self._happens(StopRequested(model))

    def begin_to_close(self) -> None:
        self.closing = True
        self._happens(DrainBegun())

    def close(self) -> None:
        self.closing = self.closed = True
        self.wishes.clear()
        self._happens(ShutdownDue())

    def advance(self, seconds: float, punctual: bool = True) -> None:
        """Time passes, and the alarm rings whenever it is due; an unpunctual one has not rung yet."""
        end = self.now + seconds
        while punctual and (due := self.scheduler.wake_at) is not None and due <= end:
            self.now = max(self.now, due)
            self._happens(TimePassed())
        self.now = end

    def ring(self) -> None:
        """Nothing happens but the alarm."""
        due = self.scheduler.wake_at
        assert due is not None, "somebody waits, and nothing will ever wake the scheduler"
        self.now = max(self.now, due)
        self._happens(TimePassed())

    # Questions

    def in_phase(self, *phases: Phase) -> list[str]:
        return [model for model, process in self.processes.items() if process.phase in phases]

    def waiting_for(self, model: str) -> list[Request]:
        return [request for request in self.waiting.values() if request.model == model]

    def wanted_since(self, model: str) -> float:
        """Who gave way has had its turn, and counts as waiting from then."""
        since = [request.since for request in self.waiting_for(model)]
        if model in self.wishes:
            since.append(self.wishes[model])
        return max(min(since), self.yielded.get(model, 0.0))

    def cold(self) -> list[str]:
        """Wanted models without a process, longest wanted first."""
        wanted = {request.model for request in self.waiting.values()} | set(self.wishes)
        return sorted(wanted - set(self.processes), key=self.wanted_since)

    def concurrency(self, model: str) -> int:
        config = self.models[model]
        return config.concurrency or 2 * (config.parallel or SLOTS)

    def isolated(self, model: str) -> bool:
        return self.scheduler.backends[model].breaker.state(self.now) is BreakerState.OPEN

    # Effects, and what each must respect

    def _happens(self, event: Event) -> None:
        isolated = {model for model in self.models if self.isolated(model)}
        expected = {request.name for request in self.waiting.values() if request.deadline <= self.now}
        effects = self.scheduler.handle(event, self.now)
        granted = [self._carry_out(effect) for effect in effects]
        # A request that is answered where it arrives leaves nothing to settle.
        settled = not (isinstance(event, RequestArrived) and len(effects) == 1 and event.request not in self.waiting)
        self._note_isolation(isolated)
        self._check_books()
        self._check_queues([request for request in granted if request])
        self._check_room()
        self._check_alarm()
        if settled:
            assert expected.isdisjoint(self.waiting), "somebody waits beyond the deadline"
            self._check_turns()

    def _carry_out(self, effect: Effect) -> Request | None:
        match effect:
            case Grant():
                return self._granted(effect)
            case Reject():
                self._rejected(effect)
            case Start():
                self._started(effect)
            case Drain():
                self._drained(effect)
            case Resume():
                self._resumed(effect)
            case Stop():
                self._stopped(effect)
            case _:
                assert_never(effect)
        return None

    def _granted(self, effect: Grant) -> Request:
        request = self.waiting.pop(effect.request)
        process = self.processes[effect.model]
        assert (request.model, process.spawn) == (effect.model, effect.spawn)
        assert process.phase is Phase.READY
        assert not process.unhealthy
        assert not self.isolated(effect.model), "a grant on an isolated backend"
        process.leases[effect.request] = request.light
        assert process.occupied <= self.concurrency(effect.model) or request.light
        assert effect.request not in self.holding
        self.holding[effect.request] = request
        return request

    def _rejected(self, effect: Reject) -> None:
        request = self.waiting.pop(effect.request)
        self.seen[effect.error.code] += 1
        if isinstance(effect.error, QueueTimeout):
            assert request.deadline <= self.now
            self.timeouts.append(request)
        assert isinstance(effect.error, ShuttingDown) <= self.closing

    def _started(self, effect: Start) -> None:
        model = effect.model
        assert not self.closed
        assert model not in self.processes
        assert effect.spawn == self.spawns[model] + 1
        assert self.waiting_for(model) or model in self.wishes, "a start that nobody wants"
        assert not self.isolated(model), "a start of an isolated backend"
        owed = [request for request in self.owed.pop(model, []) if self.waiting.get(request.name) is request]
        assert not owed, "room that was made for others is taken back before they had it"
        self.owed = {victim: [r for r in others if r.model != model] for victim, others in self.owed.items()}
        self.spawns[model] += 1
        self.processes[model] = Process(effect.spawn)
        assert len(self.processes) <= self.limits.models_max

    def _drained(self, effect: Drain) -> None:
        process = self.processes[effect.model]
        assert (process.spawn, process.phase) == (effect.spawn, Phase.READY)
        assert process.leases
        process.phase = Phase.DRAINING
        self._leaves(effect, process)

    def _resumed(self, effect: Resume) -> None:
        process = self.processes[effect.model]
        assert (process.spawn, process.phase) == (effect.spawn, Phase.DRAINING)
        assert process.leaving is StopReason.FAIRNESS
        assert not process.unhealthy
        process.phase, process.leaving = Phase.READY, None
        self.owed.pop(effect.model, None)
        self.wishes.pop(effect.model, None)

    def _stopped(self, effect: Stop) -> None:
        process = self.processes[effect.model]
        assert process.spawn == effect.spawn
        assert process.phase is not Phase.STOPPING
        if effect.reason is not StopReason.SHUTDOWN:
            assert not process.leases, "a stop under a request in flight"
        if process.phase is Phase.STARTING:
            assert effect.reason in (StopReason.REQUESTED, StopReason.SHUTDOWN)
        process.phase = Phase.STOPPING
        self._leaves(effect, process)

    def _leaves(self, effect: Drain | Stop, process: Process) -> None:
        self.seen[effect.reason] += 1
        process.leaving = effect.reason
        if effect.successor is None:
            return
        assert effect.reason in TO_MAKE_ROOM
        assert not self.models[effect.model].pinned
        assert effect.successor in self.cold(), "room for somebody who does not need it"
        assert not self.isolated(effect.successor), "an eviction for an isolated backend"
        if effect.reason is StopReason.FAIRNESS:
            self.yielded[effect.model] = self.now
            self.owed[effect.model] = self.waiting_for(effect.successor)

    # The laws

    def _note_isolation(self, before: set[str]) -> None:
        """A breaker that opens empties the queue, and the process that earned it goes."""
        for model in self.models:
            if not self.isolated(model):
                continue
            self.wishes.pop(model, None)
            assert not self.waiting_for(model), "somebody waits for an isolated backend"
            process = self.processes.get(model)
            if model not in before and process and process.phase is not Phase.STARTING and not self.closed:
                assert process.phase is not Phase.READY, "an unhealthy process stays"
                process.unhealthy = True

    def _check_books(self) -> None:
        assert self.scheduler.queued == len(self.waiting)
        assert self.scheduler.in_flight == len(self.holding)
        assert self.scheduler.live == len(self.processes) <= self.limits.models_max
        for model, backend in self.scheduler.backends.items():
            process = self.processes.get(model)
            assert backend.state.value == (process.phase.name.lower() if process else "stopped")
            assert list(backend.leases) == list(process.leases if process else ())
            assert set(backend.queue) == {request.name for request in self.waiting_for(model)}

    def _check_queues(self, granted: list[Request]) -> None:
        """First come, first served within a model, and nobody waits beside a free place."""
        assert len(self.waiting) <= self.limits.queue_size
        for request in granted:
            rivals = [other for other in self.waiting_for(request.model) if not other.light or request.light]
            assert all(request.seniority < other.seniority for other in rivals), "the queue was jumped"
        for model in self.in_phase(Phase.READY):
            waiting = self.waiting_for(model)
            assert not any(request.light for request in waiting)
            assert not waiting or self.processes[model].occupied >= self.concurrency(model)
        for model in self.in_phase(Phase.DRAINING):
            assert self.processes[model].leases, "a drain without end"

    def _check_room(self) -> None:
        """Who is wanted has a process, or there is no room for one."""
        if self.closed:
            assert not self.waiting
            assert set(self.in_phase(Phase.STOPPING)) == set(self.processes)
        elif len(self.processes) < self.limits.models_max:
            assert not self.cold(), "room stays unused while somebody waits for it"

    def _check_alarm(self) -> None:
        due = self.scheduler.wake_at
        for request in self.waiting.values():
            assert due is not None
            assert due <= request.deadline
        if self.closed:
            assert due is None
            return
        for model, process in self.processes.items():
            ttl = self.models[model].ttl
            if ttl is not None and process.phase is Phase.READY and not process.leases:
                assert due is not None
                assert due <= process.idle_since + ttl

    def _check_turns(self) -> None:
        """Who makes room, when, and for how long it is asked to."""
        due = self.scheduler.wake_at
        assert due is None or due > self.now, "an alarm that rings without end"
        stopping, draining = (len(self.in_phase(phase)) for phase in (Phase.STOPPING, Phase.DRAINING))
        cold = self.cold()
        if any(self.processes[model].leaving is StopReason.FAIRNESS for model in self.in_phase(Phase.DRAINING)):
            assert stopping + draining <= len(cold), "a drain that nobody needs"
        if len(cold) > stopping and not self.closed:
            assert not self._rested(), "an idle backend is kept beside somebody who waits"
        overdue = [model for model in cold[stopping + draining :] if self._overdue(model)]
        if overdue and not self.closed:
            assert not self._served(), "a busy backend is kept beside somebody who has waited too long"

    def _overdue(self, model: str) -> bool:
        return self.wanted_since(model) + self.limits.max_wait <= self.now

    def _rested(self) -> list[str]:
        """The idle backends that may be evicted."""
        ready = {model: self.processes[model] for model in self.in_phase(Phase.READY) if not self.models[model].pinned}
        return [model for model, p in ready.items() if not p.leases and p.idle_since + self.linger <= self.now]

    def _served(self) -> list[str]:
        """The backends that have had their turn."""
        ready = {model: self.processes[model] for model in self.in_phase(Phase.READY) if not self.models[model].pinned}
        return [model for model, p in ready.items() if p.ready_since + self.limits.min_residency <= self.now]

    # Ends

    def let_all_come_to_rest(self) -> None:
        """No more news from outside: what was begun ends well, and then everybody who waited is answered in time."""
        begun = self.now
        turns = len(self.models) + 1
        patience = turns * (self.limits.max_wait + self.limits.min_residency + self.linger)
        self.timeouts.clear()
        for _ in range(8 * (turns + len(self.waiting) + len(self.holding))):
            self._finish_what_was_begun()
            if not self.waiting:
                break
            self.ring()
        assert not self.waiting, "somebody waits for ever"
        walled_in = sum(config.pinned for config in self.models.values()) >= self.limits.models_max
        early = [request for request in self.timeouts if request.deadline > begun + patience]
        assert walled_in or not early, "a timeout where there was time enough"

    def _finish_what_was_begun(self) -> None:
        for name in list(self.holding):
            self.release(name, Outcome.SUCCESS)
        for model in self.in_phase(Phase.STARTING):
            self.finish_start(model)
        for model in self.in_phase(Phase.STOPPING):
            self.exit(model)

    def end(self) -> None:
        """Shut down under whatever is going on; nothing is left."""
        self.begin_to_close()
        self.close()
        for name in list(self.holding):
            self.release(name, Outcome.NEUTRAL)
        for model in list(self.processes):
            self.exit(model)
        assert not (self.scheduler.queued or self.scheduler.in_flight or self.scheduler.live)
        assert self.scheduler.wake_at is None
