"""A world for the scheduler: carries out its effects, and keeps books of its own to check the laws by.

Nothing here asks the scheduler what it believes, but for its `wake_at`.
"""

from collections.abc import Mapping
from typing import Any

from llamaproxy.config import BreakerConfig, LimitsConfig, ModelConfig
from llamaproxy.core.events import (
    BackendExited,
    BackendReady,
    Drain,
    Effect,
    Event,
    Grant,
    LeaseReleased,
    Outcome,
    Reject,
    RequestArrived,
    RequestLeft,
    Resume,
    Start,
    Stop,
    StopReason,
    TimePassed,
)
from llamaproxy.core.scheduler import Scheduler
from llamaproxy.errors import ModelStartFailed


class World:
    """Processes by model (their phase and spawn number), requests by name (their model and what became of them)."""

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        limits: LimitsConfig,
        breaker: BreakerConfig,
        *,
        exclusive: bool = False,
    ) -> None:
        """`exclusive`: some requests will want a backend alone, and room may then lie unused beside a queue."""
        self.exclusive = exclusive
        self.models = models
        self.limits = limits
        self.scheduler = Scheduler(models, limits, breaker)
        self.now = 100.0
        self.closing = False
        self.phase: dict[str, str] = {}
        self.spawn: dict[str, int] = dict.fromkeys(models, 0)
        self.waiting: dict[str, tuple[str, bool]] = {}
        self.leases: dict[str, tuple[str, int, bool]] = {}
        self.ended: dict[str, str] = {}
        self.starts = 0
        self._count = 0

    def tell(self, event: Event) -> list[Effect]:
        effects = self.scheduler.handle(event, self.now)
        for effect in effects:
            self._carry_out(effect, event)
        self.check()
        return effects

    # What may happen

    def arrive(self, model: str, patience: float = 1000.0, light: bool = False) -> str:
        self._count += 1
        request = f"r{self._count}"
        self.waiting[request] = (model, light)
        self.tell(RequestArrived(request, model, self.now + patience, light))
        return request

    def leave(self, request: str) -> None:
        del self.waiting[request]
        self.ended[request] = "left"
        self.tell(RequestLeft(request))

    def release(self, request: str, outcome: Outcome = Outcome.SUCCESS) -> None:
        del self.leases[request]
        self.ended[request] = "released"
        self.tell(LeaseReleased(request, outcome, "it broke"))

    def become_ready(self, model: str) -> None:
        self.phase[model] = "ready"
        self.tell(BackendReady(model, self.spawn[model]))

    def exit(self, model: str, retry: bool = False) -> None:
        """The process ends, asked or not."""
        del self.phase[model]
        self.tell(BackendExited(model, self.spawn[model], ModelStartFailed(f"{model} is gone"), retry))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.tell(TimePassed())

    def sleep_until_woken(self) -> bool:
        """Let time pass to the next alarm; False where none is set."""
        wake_at = self.scheduler.wake_at
        if wake_at is None:
            return False
        self.now = max(self.now, wake_at)
        self.tell(TimePassed())
        return True

    def quiesce(self) -> None:
        """Everything that can end does, and time passes: whoever has patience is served."""
        patient = [self.arrive(model) for model in self.models]
        for _ in range(10_000):
            for model, phase in list(self.phase.items()):
                if phase == "starting":
                    self.become_ready(model)
                elif phase == "stopping":
                    self.exit(model)
            for request in list(self.leases):
                self.release(request)
            if not self.waiting and "stopping" not in self.phase.values():
                assert "queue_timeout" not in {self.ended.get(request) for request in patient}
                return
            if not self.leases and not {"starting", "stopping"} & set(self.phase.values()):
                self.sleep_until_woken()
        raise AssertionError(f"still waiting: {self.waiting}, processes: {self.phase}")

    # The laws

    def check(self) -> None:
        assert len(self.phase) <= self.limits.models_max, "never more live backends than models_max"
        for model, config in self.models.items():
            limit = config.concurrency or 8
            heavy = sum(1 for owner, spawn, light in self._leases_on(model) if not light)
            assert heavy <= limit, "never more leases than the model's concurrency"
        if self.closing:
            return
        draining = [model for model, phase in self.phase.items() if phase == "draining"]
        assert all(self._leases_on(model) for model in draining), "a drain ends with the last lease"
        wanted = {model for model, _ in self.waiting.values()}
        cold = wanted - set(self.phase)
        assert not cold or len(self.phase) == self.limits.models_max, "no room stays unused while somebody waits for it"
        for model in wanted:
            if self.phase.get(model) == "ready" and not self.exclusive:
                heavy = sum(1 for _, _, light in self._leases_on(model) if not light)
                assert heavy >= (self.models[model].concurrency or 8), "a ready backend with room has no queue"
        if self.waiting:
            assert self.scheduler.wake_at is not None, "somebody who waits has a deadline"

    def _leases_on(self, model: str) -> list[tuple[str, int, bool]]:
        return [lease for lease in self.leases.values() if lease[:2] == (model, self.spawn[model])]

    def _carry_out(self, effect: Effect, cause: Event) -> None:
        getattr(self, f"_{type(effect).__name__.lower()}")(effect, cause)

    def _grant(self, effect: Grant, cause: Event) -> None:
        model, light = self.waiting.pop(effect.request)
        assert effect.model == model
        assert self.phase.get(model) == "ready", "granted on a backend that is ready and not draining"
        assert effect.spawn == self.spawn[model]
        self.leases[effect.request] = (model, effect.spawn, light)

    def _reject(self, effect: Reject, cause: Event) -> None:
        del self.waiting[effect.request]
        self.ended[effect.request] = effect.error.code

    def _start(self, effect: Start, cause: Event) -> None:
        assert effect.model not in self.phase, "one process for a model"
        assert effect.spawn == self.spawn[effect.model] + 1
        self.phase[effect.model], self.spawn[effect.model] = "starting", effect.spawn
        self.starts += 1

    def _drain(self, effect: Drain, cause: Event) -> None:
        assert self.phase[effect.model] == "ready"
        self.phase[effect.model] = "draining"

    def _resume(self, effect: Resume, cause: Event) -> None:
        assert self.phase[effect.model] == "draining"
        self.phase[effect.model] = "ready"

    def _stop(self, effect: Stop, cause: Event) -> None:
        assert self.phase[effect.model] != "stopping", "stopped once"
        if effect.reason is not StopReason.SHUTDOWN:
            assert not self._leases_on(effect.model), "never stopped with work in flight"
        if effect.reason not in (StopReason.SHUTDOWN, StopReason.REQUESTED):
            assert self.phase[effect.model] != "starting", "never stopped while it is loading"
        if effect.reason in (StopReason.EVICTED, StopReason.FAIRNESS):
            assert not self.models[effect.model].pinned, "a pin holds"
        self.phase[effect.model] = "stopping"


def limits(**values: Any) -> LimitsConfig:
    return LimitsConfig(**{"models_max": 1, "linger": 0, **values})


def models(*names: str, **values: Any) -> dict[str, ModelConfig]:
    return {name: ModelConfig(path=f"/{name}.gguf", **values) for name in names}
