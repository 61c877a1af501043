"""A small world that carries out what the scheduler decides, and holds it to its laws after every event.

It keeps its own books: processes are counted from effects and exits, requests from arrivals and answers. The
scheduler's books are read only where they must agree with these; its circuit breakers are taken as they are.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, assert_never

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
REMOTE = 64
"""Leases at once on a server elsewhere."""
TO_MAKE_ROOM = (StopReason.EVICTED, StopReason.FAIRNESS)


class Phase(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"


@dataclass(eq=False)
class Process:
    """`leases` says of each whether it is light, and `exclusive` which one has the process to itself.

    `unhealthy`: a breaker opened because of this process. A `remote` one is only a watch over a server elsewhere.
    """

    spawn: int
    phase: Phase = Phase.STARTING
    leases: dict[str, bool] = field(default_factory=dict)
    exclusive: str | None = None
    ready_since: float = 0.0
    idle_since: float = 0.0
    leaving: StopReason | None = None
    unhealthy: bool = False
    remote: bool = False

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
    exclusive: bool
    order: int

    @property
    def seniority(self) -> tuple[float, int]:
        return self.since, self.order


class World:
    """Processes by model, requests by name: those that wait, those that hold a lease, and how the others ended.

    Every verb is one event, and `effects` is what followed from the last one.
    """

    def __init__(self, models: Mapping[str, ModelConfig], limits: LimitsConfig, breaker: BreakerConfig) -> None:
        self.models = dict(models)
        self.limits = limits
        self.scheduler = Scheduler(models, limits, breaker)
        self.now = 100.0
        self.effects: list[Effect] = []
        self.processes: dict[str, Process] = {}
        self.waiting: dict[str, Request] = {}
        self.leases: dict[str, Request] = {}
        self.orphans: set[str] = set()
        self.ended: dict[str, str] = {}
        self.spawns: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self._wishes: dict[str, float] = {}
        self._yielded: dict[str, float] = {}
        self._owed: dict[str, list[Request]] = {}
        self._early: list[Request] = []
        self._patience = float("inf")
        self._closing = self._closed = False
        self._count = 0

    # What may happen

    def arrive(
        self,
        model: str,
        patience: float = 1000.0,
        light: bool = False,
        name: str = "",
        since: float | None = None,
        exclusive: bool = False,
    ) -> str:
        """`name` and `since`, of a request that came before: a replay."""
        self._count += 1
        name = name or f"r{self._count}"
        first = self.now if since is None else since
        self.waiting[name] = Request(name, model, first, self.now + patience, light, exclusive, self._count)
        self._tell(RequestArrived(name, model, self.now + patience, light, since, exclusive))
        return name

    def arrive_for_nothing(self) -> None:
        """A request for a model that does not exist is answered, and changes nothing."""
        [effect] = self.scheduler.handle(RequestArrived("stray", "no-such-model", self.now + 1), self.now)
        assert isinstance(effect, Reject)
        assert isinstance(effect.error, ModelNotFound)

    def leave(self, name: str) -> None:
        """The client goes; the news may also come after its request was answered."""
        if self.waiting.pop(name, None):
            self.ended[name] = "left"
        self._tell(RequestLeft(name))

    def release(self, name: str, outcome: Outcome = Outcome.SUCCESS) -> Request:
        request = self.leases.pop(name)
        self.ended[name] = "released"
        self.orphans.discard(name)
        process = self.processes.get(request.model)
        if process and name in process.leases:
            del process.leases[name]
            process.exclusive = None if process.exclusive == name else process.exclusive
            process.idle_since = self.now
        self._tell(LeaseReleased(name, outcome, "it broke"))
        return request

    def answer(self, name: str) -> None:
        self._tell(BackendAnswered(name))

    def become_ready(self, model: str) -> None:
        process = self.processes[model]
        assert process.phase is Phase.STARTING
        process.phase = Phase.READY
        process.ready_since = process.idle_since = self.now
        self._wishes.pop(model, None)
        self._tell(BackendReady(model, process.spawn))

    def exit(self, model: str, retry: bool = False) -> None:
        """The process ends, asked or not: a failed start, a crash, or the end of a stop."""
        process = self.processes.pop(model)
        self.orphans.update(process.leases)
        if process.phase is Phase.STARTING and not retry:
            self._wishes.pop(model, None)
        self._tell(BackendExited(model, process.spawn, ModelStartFailed(f"{model} is gone"), retry))

    def hear_old_news(self, model: str, ready: bool) -> None:
        """News of a process that is long gone."""
        old = self.spawns[model] - (model in self.processes)
        error = ModelStartFailed("old news")
        self._tell(BackendReady(model, old) if ready else BackendExited(model, old, error))

    def request_start(self, model: str) -> None:
        process = self.processes.get(model)
        if not self._closing and (process is None or process.phase in (Phase.DRAINING, Phase.STOPPING)):
            self._wishes.setdefault(model, self.now)
        self._tell(StartRequested(model))

    def request_stop(self, model: str) -> None:
        self._wishes.pop(model, None)
        process = self.processes.get(model)
        if process and process.leaving is StopReason.FAIRNESS:
            process.leaving = StopReason.REQUESTED
        self._tell(StopRequested(model))

    def begin_drain(self) -> None:
        self._closing = True
        self._tell(DrainBegun())

    def shut_down(self) -> None:
        self._closing = self._closed = True
        self._wishes.clear()
        self._tell(ShutdownDue())

    def wait(self, seconds: float) -> None:
        """Time passes, and the alarm rings at the end of it."""
        self.now += seconds
        self._tell(TimePassed())

    def wait_alert(self, seconds: float) -> None:
        """Time passes, and the alarm rings whenever it is due."""
        end = self.now + seconds
        while (due := self.scheduler.wake_at) is not None and due <= end:
            self.sleep_until_woken()
        self.now = end

    def sleep_until_woken(self) -> None:
        """Time passes until the alarm rings."""
        due = self.scheduler.wake_at
        assert due is not None, "nothing will ever wake the scheduler"
        self.now = max(self.now, due)
        self._tell(TimePassed())

    # Questions

    @property
    def phase(self) -> dict[str, str]:
        return {model: process.phase.value for model, process in self.processes.items()}

    def in_phase(self, *phases: Phase) -> list[str]:
        return [model for model, process in self.processes.items() if process.phase in phases]

    def waiting_for(self, model: str) -> list[Request]:
        return [request for request in self.waiting.values() if request.model == model]

    def _wanted_since(self, model: str) -> float:
        """Who gave way has had its turn, and counts as waiting from then."""
        since = [request.since for request in self.waiting_for(model)]
        if model in self._wishes:
            since.append(self._wishes[model])
        return max(min(since), self._yielded.get(model, 0.0))

    def _cold(self) -> list[str]:
        """Wanted models without a process, longest wanted first."""
        wanted = {request.model for request in self.waiting.values()} | set(self._wishes)
        return sorted(wanted - set(self.processes), key=self._wanted_since)

    def _has_room(self, model: str, request: Request) -> bool:
        process = self.processes[model]
        if process.exclusive or (request.exclusive and process.leases):
            return False
        return request.light or process.occupied < self._concurrency(model)

    def _concurrency(self, model: str) -> int:
        config = self.models[model]
        return config.concurrency or (REMOTE if config.url else 2 * (config.parallel or SLOTS))

    def _placed(self, *phases: Phase) -> list[str]:
        """The models with a process that takes a place, in any of these phases if there are some."""
        among = self.in_phase(*(phases or Phase))
        return [model for model in among if not self.processes[model].remote]

    def _isolated(self, model: str) -> bool:
        return self.scheduler.backends[model].breaker.state(self.now) is BreakerState.OPEN

    # Effects, and what each must respect

    def _tell(self, event: Event) -> None:
        isolated = {model for model in self.models if self._isolated(model)}
        overdue = {request.name for request in self.waiting.values() if request.deadline <= self.now}
        self.effects = self.scheduler.handle(event, self.now)
        granted = [self._carry_out(effect) for effect in self.effects]
        self._check_isolation(isolated)
        self._check_books()
        self._check_queues([request for request in granted if request])
        self._check_room()
        self._check_alarm()
        # A request that is answered where it arrives leaves nothing to settle.
        if not isinstance(event, RequestArrived) or event.request in self.waiting:
            assert overdue.isdisjoint(self.waiting), "somebody waits beyond the deadline"
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
        assert process.phase is Phase.READY, "a grant on a backend that is not ready, or draining"
        assert not process.unhealthy, "a grant on a process that is being replaced"
        assert not self._isolated(effect.model), "a grant on an isolated backend"
        assert process.exclusive is None, "a grant beside one who has the backend alone"
        if request.exclusive:
            assert not process.leases, "a grant of a whole backend that is in use"
            process.exclusive = effect.request
        process.leases[effect.request] = request.light
        assert process.occupied <= self._concurrency(effect.model) or request.light, "more leases than places"
        assert effect.request not in self.leases
        self.leases[effect.request] = request
        return request

    def _rejected(self, effect: Reject) -> None:
        request = self.waiting.pop(effect.request)
        self.ended[effect.request] = effect.error.code
        self.seen[effect.error.code] += 1
        if isinstance(effect.error, QueueTimeout):
            assert request.deadline <= self.now
            if request.deadline > self._patience:
                self._early.append(request)
        assert not isinstance(effect.error, ShuttingDown) or self._closing

    def _started(self, effect: Start) -> None:
        model = effect.model
        assert not self._closed
        assert model not in self.processes, "two processes for a model"
        assert effect.spawn == self.spawns[model] + 1
        assert self.waiting_for(model) or model in self._wishes, "a start that nobody wants"
        assert not self._isolated(model), "a start of an isolated backend"
        owed = [request for request in self._owed.pop(model, []) if self.waiting.get(request.name) is request]
        assert not owed, "room that was made for others is taken back before they had it"
        self._owed = {victim: [r for r in others if r.model != model] for victim, others in self._owed.items()}
        self.spawns[model] += 1
        self.processes[model] = Process(effect.spawn, remote=self.models[model].url is not None)
        assert len(self._placed()) <= self.limits.models_max, "more live backends than models_max"

    def _drained(self, effect: Drain) -> None:
        process = self.processes[effect.model]
        assert (process.spawn, process.phase) == (effect.spawn, Phase.READY)
        assert process.leases, "a drain of an idle backend"
        process.phase = Phase.DRAINING
        self._leaves(effect, process)

    def _resumed(self, effect: Resume) -> None:
        process = self.processes[effect.model]
        assert (process.spawn, process.phase) == (effect.spawn, Phase.DRAINING)
        assert process.leaving is StopReason.FAIRNESS, "a drain that was not for room is called off"
        assert not process.unhealthy, "an unhealthy process is kept"
        process.phase, process.leaving = Phase.READY, None
        self.seen["resume"] += 1
        self._owed.pop(effect.model, None)
        self._wishes.pop(effect.model, None)

    def _stopped(self, effect: Stop) -> None:
        process = self.processes[effect.model]
        assert process.spawn == effect.spawn
        assert process.phase is not Phase.STOPPING, "stopped twice"
        if effect.reason is not StopReason.SHUTDOWN:
            assert not process.leases, "a stop under a request in flight"
        if process.phase is Phase.STARTING:
            assert effect.reason in (StopReason.REQUESTED, StopReason.SHUTDOWN), "a stop while it is loading"
        drained = process.phase is Phase.DRAINING
        process.phase = Phase.STOPPING
        if not drained:
            self._leaves(effect, process)

    def _leaves(self, effect: Drain | Stop, process: Process) -> None:
        self.seen[effect.reason] += 1
        process.leaving = effect.reason
        if effect.reason not in TO_MAKE_ROOM:
            return
        assert not self.models[effect.model].pinned, "a pin does not hold"
        assert not self.processes[effect.model].remote, "a server elsewhere makes no room here"
        assert effect.successor in self._cold(), "room for somebody who does not need it"
        assert not self._isolated(effect.successor), "an eviction for an isolated backend"
        if effect.reason is StopReason.FAIRNESS:
            if self._yielded.get(effect.successor) != self.now:
                self._owed[effect.model] = self.waiting_for(effect.successor)
            self._yielded[effect.model] = self.now

    # The laws

    def _check_isolation(self, before: set[str]) -> None:
        """A breaker that opens empties the queue, and the process that earned it goes."""
        for model in filter(self._isolated, self.models):
            self._wishes.pop(model, None)
            assert not self.waiting_for(model), "somebody waits for an isolated backend"
            process = self.processes.get(model)
            if model not in before and process and process.phase is not Phase.STARTING and not self._closed:
                assert process.phase is not Phase.READY, "an unhealthy process is kept"
                process.unhealthy, process.leaving = True, StopReason.UNHEALTHY

    def _check_books(self) -> None:
        assert self.scheduler.queued == len(self.waiting)
        assert self.scheduler.in_flight == len(self.leases)
        assert self.scheduler.live == len(self.processes)
        for model, backend in self.scheduler.backends.items():
            process = self.processes.get(model)
            assert backend.state.value == (process.phase.value if process else "stopped")
            assert list(backend.leases) == list(process.leases if process else ())
            assert set(backend.queue) == {request.name for request in self.waiting_for(model)}

    def _check_queues(self, granted: list[Request]) -> None:
        """First come, first served within a model, and nobody waits beside a free place."""
        assert len(self.waiting) <= self.limits.queue_size
        for request in granted:
            rivals = [rival for rival in self.waiting_for(request.model) if rival.seniority < request.seniority]
            for rival in rivals:
                assert request.light and not rival.light and not rival.exclusive, "a queue was jumped"
        for model in self.in_phase(Phase.READY):
            for request in sorted(self.waiting_for(model), key=lambda request: request.seniority):
                assert not self._has_room(model, request), "somebody waits for a backend with room"
                if request.exclusive:
                    break
        for model in self.in_phase(Phase.DRAINING):
            assert self.processes[model].leases, "a drain without end"

    def _check_room(self) -> None:
        """Who is wanted has a process, or there is no room for one."""
        if self._closed:
            assert not self.waiting
            assert set(self.in_phase(Phase.STOPPING)) == set(self.processes)
        elif len(self._placed()) < self.limits.models_max:
            assert not self._cold(), "room stays unused while somebody waits for it"
        else:
            assert not any(self.models[model].url for model in self._cold()), "a server elsewhere needs no room"

    def _check_alarm(self) -> None:
        due = float("inf") if self.scheduler.wake_at is None else self.scheduler.wake_at
        assert all(due <= request.deadline for request in self.waiting.values()), "an alarm after a deadline"
        for model in self.in_phase(Phase.READY):
            process, ttl = self.processes[model], self.models[model].ttl
            if ttl is not None and not process.leases:
                assert due <= process.idle_since + ttl, "an alarm after the end of a time to live"

    def _check_turns(self) -> None:
        """Who makes room, when, and for how long it is asked to."""
        due = self.scheduler.wake_at
        assert due is None or due > self.now, "an alarm that rings without end"
        stopping, draining = (len(self._placed(phase)) for phase in (Phase.STOPPING, Phase.DRAINING))
        cold = self._cold()
        if any(self.processes[model].leaving is StopReason.FAIRNESS for model in self.in_phase(Phase.DRAINING)):
            assert stopping + draining <= len(cold), "a drain that nobody needs"
        if len(cold) > stopping:
            assert not self._rested(), "an idle backend is kept beside somebody who waits"
        if any(map(self._overdue, cold[stopping + draining :])):
            assert not self._served(), "a busy backend is kept beside somebody who has waited too long"

    def _overdue(self, model: str) -> bool:
        return self._wanted_since(model) + self.limits.max_wait <= self.now

    def _evictable(self) -> dict[str, Process]:
        return {model: self.processes[model] for model in self._placed(Phase.READY) if not self.models[model].pinned}

    def _rested(self) -> list[str]:
        """The idle backends whose linger is over, where it is known."""
        if (linger := self.limits.linger) is None:
            return []
        idle = {model: process for model, process in self._evictable().items() if not process.leases}
        return [model for model, process in idle.items() if process.idle_since + linger <= self.now]

    def _served(self) -> list[str]:
        """The backends that have had their turn."""
        residency = self.limits.min_residency
        return [model for model, process in self._evictable().items() if process.ready_since + residency <= self.now]

    # Ends

    def quiesce(self) -> None:
        """No more news from outside: what was begun ends well, and then everybody who waits is answered in time."""
        turns = len(self.models) + 1
        bound = turns * (self.limits.max_wait + self.limits.min_residency + (self.limits.linger or 0.1))
        self._patience = self.now + bound
        for _ in range(8 * (turns + len(self.waiting) + len(self.leases))):
            self._finish_what_was_begun()
            if not self.waiting:
                break
            if not self.leases and not self.in_phase(Phase.STARTING, Phase.STOPPING):
                self.sleep_until_woken()
        assert not self.waiting, "somebody waits for ever"
        walled_in = sum(config.pinned for config in self.models.values()) >= self.limits.models_max
        assert walled_in or not self._early, "a timeout where there was time enough"
        self._patience = float("inf")

    def _finish_what_was_begun(self) -> None:
        for name in list(self.leases):
            self.release(name)
        for model in self.in_phase(Phase.STARTING):
            self.become_ready(model)
        for model in self.in_phase(Phase.STOPPING):
            self.exit(model)

    def end(self) -> None:
        """Shut down under whatever is going on; nothing is left."""
        self.begin_drain()
        self.shut_down()
        for name in list(self.leases):
            self.release(name, Outcome.NEUTRAL)
        for model in list(self.processes):
            self.exit(model)
        assert not (self.scheduler.queued or self.scheduler.in_flight or self.scheduler.live)
        assert self.scheduler.wake_at is None


def limits(**values: Any) -> LimitsConfig:
    return LimitsConfig(**{"models_max": 1, "linger": 0, **values})


def remote(*names: str, **values: Any) -> dict[str, ModelConfig]:
    """Models that servers elsewhere have."""
    return {name: ModelConfig(url=f"http://{name}.test", **values) for name in names}


def models(*names: str, **values: Any) -> dict[str, ModelConfig]:
    return {name: ModelConfig(path=f"/{name}.gguf", **values) for name in names}
