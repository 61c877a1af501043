"""A small world that carries out what the scheduler decides, and holds it to its laws after every event.

It keeps its own books, which stand in `books` and `ledger`; the laws stand in `laws`.
"""

from collections.abc import Mapping
from typing import Any, assert_never

from llamaproxy.config import BreakerConfig, LimitsConfig
from llamaproxy.core.events import (
    BackendAnswered,
    BackendExited,
    BackendReady,
    BreakerResetRequested,
    Drain,
    DrainBegun,
    Effect,
    Event,
    FootprintKnown,
    Grant,
    LeaseReleased,
    ModelsChanged,
    Outcome,
    Reject,
    RequestArrived,
    RequestLeft,
    RestartRequested,
    Resume,
    ShutdownDue,
    Start,
    StartRequested,
    Stop,
    StopReason,
    StopRequested,
    TimePassed,
)
from llamaproxy.core.footprint import Footprint
from llamaproxy.errors import ModelNotFound, ModelOutOfMemory, ModelStartFailed, QueueTimeout, ShuttingDown
from llamaproxy.modelconfig import ModelConfig
from tests.core.books import Phase, Process, Request
from tests.core.laws import TO_MAKE_ROOM, Laws


class World(Laws):
    """Every verb is one event, and `effects` is what followed from the last one."""

    # What may happen

    def arrive(
        self,
        model: str,
        patience: float = 1000.0,
        light: bool = False,
        name: str = "",
        since: float | None = None,
        exclusive: bool = False,
        priority: int = 0,
    ) -> str:
        """`name` and `since`, of a request that came before: a replay."""
        self._count += 1
        name = name or f"r{self._count}"
        first = self.now if since is None else since
        self.waiting[name] = Request(name, model, first, self.now + patience, light, exclusive, self._count, priority)
        self._tell(RequestArrived(name, model, self.now + patience, light, since, exclusive, priority))
        assert name not in self.waiting or len(self.waiting) <= self.limits.queue_size, "the queue has no end"
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
        self.ledger.died_of_it.discard(model)
        self._tell(BackendReady(model, process.spawn))

    def exit(self, model: str, retry: bool = False, blameless: bool = False) -> None:
        """The process ends, asked or not: a failed start, a crash, or the end of a stop."""
        process = self._bury(model)
        if process.phase is Phase.STARTING:
            self.ledger.died_of_it.discard(model)
            if not retry:
                self._wishes.pop(model, None)
        error = ModelStartFailed(f"{model} is gone", detail="its last words")
        self._tell(BackendExited(model, process.spawn, error, retry, blameless))

    def starve(self, model: str) -> None:
        """The process dies for want of memory. Once in a row that is a matter between it and its neighbours."""
        process, waiters = self._bury(model), self.waiting_for(model)
        again = process.phase is Phase.STARTING and self._starved(model)
        if process.phase is Phase.STARTING and not again:
            self._wishes.pop(model, None)
        error = ModelOutOfMemory(f"{model} wants more memory", detail="bad_alloc")
        self._tell(BackendExited(model, process.spawn, error))
        if again:
            kept = all(waiter.name in self.waiting or waiter.deadline <= self.now for waiter in waiters)
            assert kept or self._walled(model), "those who wait are not let wait for another try"
            assert not self._isolated(model), "a crowd is held against the model"
        elif process.phase is Phase.STARTING:
            assert not self.waiting_for(model), "a start is tried again without end"

    def _starved(self, model: str) -> bool:
        """Whether it may help to try once more beside one neighbour less."""
        self.ledger.starve(model, len(self.placed()))
        again = bool(self.placed()) and model not in self.ledger.died_of_it and not self._walled(model)
        (self.ledger.died_of_it.add if again else self.ledger.died_of_it.discard)(model)
        return again

    def _bury(self, model: str) -> Process:
        process = self.processes.pop(model)
        self.orphans.update(process.leases)
        self.ledger.exited(model)
        if model not in self.models:
            self._yielded.pop(model, None)
        return process

    def weigh(self, model: str, *size: int, measured: bool = False) -> None:
        """News of how large the model is, in RAM and on each device."""
        if measured:
            self.ledger.measure(model, size, model in self.in_phase(Phase.STARTING))
        elif model in self.models:
            self.ledger.estimate(model, size)
        self._tell(FootprintKnown(model, Footprint(size[0], size[1:]), measured))

    def reconfigure(
        self,
        models: Mapping[str, ModelConfig] | None = None,
        limits: LimitsConfig | None = None,
        breaker: BreakerConfig | None = None,
        replaced: frozenset[str] = frozenset(),
    ) -> None:
        """What is not named stays as it is."""
        before, self.models = self.models, dict(self.models if models is None else models)
        self.limits = self.ledger.limits = limits or self.limits
        self._owed.clear()  # Who was overdue need not be so any more, and what others take may be less.
        self.breaker = breaker or self.breaker
        gone = before.keys() - self.models.keys()
        others = {name for name in before.keys() & self.models.keys() if _is_another(before[name], self.models[name])}
        back = {name for name in self.processes if name not in before and name in self.models}
        touched = gone | others | back | (replaced & self.models.keys())
        for name in touched:
            self._outdate(name)
        self._tell(ModelsChanged(self.models, self.limits, self.breaker, replaced))
        assert not any(self.waiting_for(name) for name in gone), "somebody waits for a model that is no more"
        assert not any(map(self._isolated, touched)), "another model pays for the failures of one before it"
        leaving = self.in_phase(Phase.DRAINING, Phase.STOPPING)
        assert all(name in leaving or self._is_new(name) for name in touched & self.processes.keys())

    def _outdate(self, model: str) -> None:
        process = self.processes.get(model)
        self.ledger.forget(model, process is not None)
        if model not in self.models:
            self._wishes.pop(model, None)
        if process is None:
            if model not in self.models:
                self._yielded.pop(model, None)
            return
        stays = process.phase in (Phase.STARTING, Phase.READY)
        if stays and model in self.models and self.models[model].preload and not self._closing:
            self._wishes.setdefault(model, self.now)
        process.outdated = True
        if not process.unhealthy:
            process.leaving = StopReason.RELOADED

    def _is_new(self, model: str) -> bool:
        return not self.processes[model].outdated

    def hear_old_news(self, model: str, ready: bool) -> None:
        """News of a process that is long gone."""
        old = self.spawns[model] - (model in self.processes)
        error = ModelStartFailed("old news")
        self._tell(BackendReady(model, old) if ready else BackendExited(model, old, error))

    def request_start(self, model: str) -> None:
        process = self.processes.get(model)
        known = model in self.models and not self._closing
        if known and (process is None or process.phase in (Phase.DRAINING, Phase.STOPPING)):
            self._wishes.setdefault(model, self.now)
        self._tell(StartRequested(model))

    def request_stop(self, model: str) -> None:
        self._wishes.pop(model, None)
        process = self.processes.get(model)
        if process and process.leaving is StopReason.FAIRNESS and model in self.models:
            process.leaving = StopReason.REQUESTED
        self._tell(StopRequested(model))

    def request_restart(self, model: str) -> None:
        if model in self.models and not self._closing:
            self._wishes.setdefault(model, self.now)
            process = self.processes.get(model)
            if process and process.leaving is StopReason.FAIRNESS:
                process.leaving = StopReason.REQUESTED
        self._tell(RestartRequested(model))

    def reset_breaker(self, model: str) -> None:
        self._tell(BreakerResetRequested(model))
        assert not self._isolated(model)

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

    # Effects, and what each must respect

    def _at_once(self, event: Event) -> list[Effect]:
        """The short way of arrivals, which must keep all laws, too."""
        if isinstance(event, RequestArrived) and self.scheduler.grants(event, self.now):
            return [Grant(event.request, event.model, self.scheduler.backends[event.model].spawn)]
        return []

    def _tell(self, event: Event) -> None:
        isolated = {model for model in self.models if self._isolated(model)}
        self._wanted_before = {model: self._wanted_since(model) for model in self._cold()}
        overdue = {request.name for request in self.waiting.values() if request.deadline <= self.now}
        self._draining_before = set(self.in_phase(Phase.DRAINING))
        self.effects = self._at_once(event) or self.scheduler.handle(event, self.now)
        self._may_die = isinstance(event, BackendExited)
        granted = [self._carry_out(effect) for effect in self.effects]
        self._wishes = {model: at for model, at in self._wishes.items() if not self._walled(model)}
        self._check_isolation(isolated)
        self._check_books()
        self._check_queues([request for request in granted if request])
        self._check_room()
        self._check_alarm()
        self._check_victims()
        # A request that is answered where it arrives leaves nothing to settle.
        if not isinstance(event, RequestArrived) or event.request in self.waiting:
            assert overdue.isdisjoint(self.waiting), "somebody waits beyond the deadline"
            self._check_places()
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
        assert not process.unhealthy and not process.outdated, "a grant on a process that is being replaced"
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
        assert isinstance(effect.error, ModelNotFound) is (request.model not in self.models)
        if isinstance(effect.error, ModelOutOfMemory) and not self._may_die:
            assert not self.ledger.fits(request.model, []), "a model that fits is refused"

    def _started(self, effect: Start) -> None:
        model = effect.model
        assert not self._closed
        assert model in self.models, "a start of a model that is no more"
        assert model not in self.processes, "two processes for a model"
        assert effect.spawn > self.spawns[model], "the number of a spawn is given twice"
        assert self.waiting_for(model) or model in self._wishes, "a start that nobody wants"
        assert not self._isolated(model), "a start of an isolated backend"
        if self.models[model].url:
            self.spawns[model] = effect.spawn
            self.processes[model] = Process(effect.spawn, remote=True)
            return
        assert self.ledger.fits(model, self.placed()), "a start without room for it"
        loading = self.placed(Phase.STARTING)
        assert not self.ledger.disturbs(len(self.placed()) + 1, loading), "more company than a model bears that starts"
        owed = {r.model for r in self._owed.pop(model, []) if self.waiting.get(r.name) is r}
        self._owed = {victim: [r for r in others if r.model != model] for victim, others in self._owed.items()}
        self.spawns[model] = effect.spawn
        self.processes[model] = Process(effect.spawn)
        staying = self.placed(Phase.STARTING, Phase.READY)
        without = [other for other in staying if other != model]
        fits = self.ledger.fits
        taken_back = [other for other in owed if fits(other, without) and not fits(other, staying)]
        assert not taken_back, "room that was made for others is taken back before they had it"

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
            told = effect.reason in (StopReason.REQUESTED, StopReason.SHUTDOWN)
            assert told or process.outdated, "a stop while it is loading"
        if effect.reason is StopReason.OVER_LIMIT:
            assert not self.models[effect.model].pinned, "a pin does not hold"
            assert not process.remote, "a server elsewhere makes no room here"
        drained = process.phase is Phase.DRAINING
        process.phase = Phase.STOPPING
        if not drained:
            self._leaves(effect, process)

    def _leaves(self, effect: Drain | Stop, process: Process) -> None:
        self.seen[effect.reason] += 1
        process.leaving = effect.reason
        assert effect.reason is not StopReason.RELOADED or process.outdated, "an unchanged model is reloaded"
        if effect.reason not in TO_MAKE_ROOM:
            return
        assert not self.models[effect.model].pinned, "a pin does not hold"
        assert not process.remote, "a server elsewhere makes no room here"
        assert effect.successor in self._cold(), "room for somebody who does not need it"
        assert not self._isolated(effect.successor), "an eviction for an isolated backend"
        if effect.reason is StopReason.FAIRNESS:
            if self._yielded.get(effect.successor) != self.now:
                self._owed[effect.model] = self.waiting_for(effect.successor)
            self._yielded[effect.model] = self.now

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
        assert not self._early, "a timeout where there was time enough"
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


def _is_another(one: ModelConfig, other: ModelConfig) -> bool:
    """Whether they start processes that differ, as far as the tests change them."""
    return (one.path, one.ctx_size, one.parallel) != (other.path, other.ctx_size, other.parallel)


def limits(**values: Any) -> LimitsConfig:
    return LimitsConfig(**{"models_max": 1, "linger": 0, **values})


def remote(*names: str, **values: Any) -> dict[str, ModelConfig]:
    """Models that servers elsewhere have."""
    return {name: ModelConfig(url=f"http://{name}.test", **values) for name in names}


def models(*names: str, **values: Any) -> dict[str, ModelConfig]:
    return {name: ModelConfig(path=f"/{name}.gguf", **values) for name in names}
