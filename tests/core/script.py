"""A scheduler and a clock that is moved by hand, so that a test reads like a script.

Every verb is one event and returns what follows from it, one short line for each effect.
"""

from collections.abc import Mapping
from typing import Any, assert_never

from llamaproxy.config import BreakerConfig, LimitsConfig, ModelConfig
from llamaproxy.core.backend import Backend
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
    StopRequested,
    TimePassed,
)
from llamaproxy.core.scheduler import Scheduler
from llamaproxy.errors import GatewayError, ModelStartFailed, Unavailable


def model(**settings: Any) -> ModelConfig:
    return ModelConfig.model_validate({"path": "/models/some.gguf", **settings})


class Script:
    """Models are given by name, with their settings; `limits` and `breaker` as in the configuration."""

    def __init__(
        self,
        models: str | Mapping[str, Mapping[str, Any]],
        *,
        breaker: Mapping[str, Any] | None = None,
        **limits: Any,
    ) -> None:
        settings = dict.fromkeys(models.split(), {}) if isinstance(models, str) else models
        configs = {name: model(**given) for name, given in settings.items()}
        self.scheduler = Scheduler(configs, LimitsConfig(**limits), BreakerConfig(**(breaker or {})))
        self.now = 0.0
        self.errors: dict[str, GatewayError] = {}

    def at(self, now: float) -> "Script":
        """The same script, later; nothing happens by itself."""
        assert now >= self.now
        self.now = now
        return self

    def arrives(
        self, request: str, model: str, *, light: bool = False, within: float = 300.0, since: float | None = None
    ) -> list[str]:
        return self.happens(RequestArrived(request, model, self.now + within, light, since))

    def leaves(self, request: str) -> list[str]:
        return self.happens(RequestLeft(request))

    def ends(self, request: str, outcome: Outcome = Outcome.SUCCESS) -> list[str]:
        return self.happens(LeaseReleased(request, outcome, "it broke"))

    def fails(self, request: str) -> list[str]:
        return self.ends(request, Outcome.FAILURE)

    def answered(self, request: str) -> list[str]:
        return self.happens(BackendAnswered(request))

    def ready(self, model: str, spawn: int | None = None) -> list[str]:
        return self.happens(BackendReady(model, self[model].spawn if spawn is None else spawn))

    def exits(self, model: str, spawn: int | None = None) -> list[str]:
        error = Unavailable(f"{model} is gone")
        return self.happens(BackendExited(model, self[model].spawn if spawn is None else spawn, error))

    def start_fails(self, model: str) -> list[str]:
        error = ModelStartFailed(f"{model} does not start")
        return self.happens(BackendExited(model, self[model].spawn, error))

    def is_killed(self, model: str) -> list[str]:
        return self.happens(BackendExited(model, self[model].spawn, Unavailable(f"{model} was killed"), retry=True))

    def start_requested(self, model: str) -> list[str]:
        return self.happens(StartRequested(model))

    def stop_requested(self, model: str) -> list[str]:
        return self.happens(StopRequested(model))

    def drain_begins(self) -> list[str]:
        return self.happens(DrainBegun())

    def shutdown_is_due(self) -> list[str]:
        return self.happens(ShutdownDue())

    def time_passes(self, now: float) -> list[str]:
        return self.at(now).happens(TimePassed())

    def happens(self, event: Event) -> list[str]:
        effects = self.scheduler.handle(event, self.now)
        self.errors.update((effect.request, effect.error) for effect in effects if isinstance(effect, Reject))
        return [spell(effect) for effect in effects]

    def runs(self, model: str) -> "Script":
        """The model becomes resident now, without any request."""
        assert self.start_requested(model) == [f"start {model}#{self[model].spawn}"]
        assert self.ready(model) == []
        return self

    def __getitem__(self, model: str) -> Backend:
        return self.scheduler.backends[model]

    def breaker(self, model: str) -> BreakerState:
        return self[model].breaker.state(self.now)

    @property
    def wake_at(self) -> float | None:
        return self.scheduler.wake_at


def spell(effect: Effect) -> str:
    match effect:
        case Grant(request, model, spawn):
            return f"grant {request} {model}#{spawn}"
        case Reject(request, error):
            return f"reject {request} {error.code}"
        case Start(model, spawn):
            return f"start {model}#{spawn}"
        case Drain(model, spawn, reason, successor):
            return f"drain {model}#{spawn} {reason}" + (f" for {successor}" if successor else "")
        case Resume(model, spawn):
            return f"resume {model}#{spawn}"
        case Stop(model, spawn, reason, successor):
            return f"stop {model}#{spawn} {reason}" + (f" for {successor}" if successor else "")
        case _:
            assert_never(effect)
