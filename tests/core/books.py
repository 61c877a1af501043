"""The books of a world: what there is, told from effects and news, and questions about it.

Processes are counted from effects and exits, requests from arrivals and answers. The scheduler's own books are not
read, but for its circuit breakers, which are taken as they are.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from llamaproxy.config import BreakerConfig, LimitsConfig
from llamaproxy.core.breaker import BreakerState
from llamaproxy.core.events import (
    Effect,
    StopReason,
)
from llamaproxy.core.scheduler import Scheduler
from llamaproxy.modelconfig import ModelConfig
from tests.core.ledger import Ledger

SLOTS = 4
REMOTE = 64
"""Leases at once on a server elsewhere."""


class Phase(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"


@dataclass(eq=False)
class Process:
    """`leases` says of each whether it is light, and `exclusive` which one has the process to itself.

    `unhealthy`: a breaker opened because of this process. `outdated`: its model is another one by now, or none. A
    `remote` one is only a watch over a server elsewhere.
    """

    spawn: int
    phase: Phase = Phase.STARTING
    leases: dict[str, bool] = field(default_factory=dict)
    exclusive: str | None = None
    ready_since: float = 0.0
    idle_since: float = 0.0
    leaving: StopReason | None = None
    unhealthy: bool = False
    outdated: bool = False
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
    priority: int = 0

    @property
    def seniority(self) -> tuple[float, int]:
        return self.since, self.order


class Books:
    """Processes by model, requests by name: those that wait, those that hold a lease, and how the others ended.

    `effects` is what followed from the last event.
    """

    def __init__(self, models: Mapping[str, ModelConfig], limits: LimitsConfig, breaker: BreakerConfig) -> None:
        self.models = dict(models)
        self.limits = limits
        self.breaker = breaker
        self.ledger = Ledger(limits)
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
        self._closing = self._closed = self._may_die = False
        self._wanted_before: dict[str, float] = {}
        self._draining_before: set[str] = set()
        self._count = 0

    @property
    def phase(self) -> dict[str, str]:
        return {model: process.phase.value for model, process in self.processes.items()}

    def in_phase(self, *phases: Phase) -> list[str]:
        return [model for model, process in self.processes.items() if process.phase in phases]

    def placed(self, *phases: Phase) -> list[str]:
        """The models with a process that takes something here, in any of these phases if there are some."""
        return [model for model in self.in_phase(*(phases or Phase)) if not self.processes[model].remote]

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

    def _cold_here(self) -> list[str]:
        """Those who need room."""
        return [model for model in self._cold() if not self.models[model].url]

    def _overdue(self, model: str) -> bool:
        return self._wanted_since(model) + self.limits.max_wait <= self.now

    def _before(self, model: str, cold: list[str]) -> list[str]:
        """Those who have waited as long or longer: what they need is perhaps kept for them."""
        since = self._wanted_since(model)
        return [other for other in cold if other != model and self._wanted_since(other) <= since]

    def _may_start(self, model: str, others: list[str], before: list[str]) -> bool:
        shy = [*self.placed(Phase.STARTING), *before]
        return self.ledger.fits(model, others) and not self.ledger.disturbs(len(others) + 1, shy)

    def _walled(self, model: str) -> bool:
        """Whether the model is too large, or the pinned ones leave no room for it."""
        staying = self.placed(Phase.STARTING, Phase.READY)
        pinned = [other for other in staying if self.models[other].pinned]
        return not self.models[model].url and model not in self.processes and not self.ledger.fits(model, pinned)

    def _has_room(self, model: str, request: Request) -> bool:
        process = self.processes[model]
        if process.exclusive or (request.exclusive and process.leases):
            return False
        return request.light or process.occupied < self._concurrency(model)

    def _concurrency(self, model: str) -> int:
        config = self.models[model]
        return config.concurrency or (REMOTE if config.url else 2 * (config.parallel or SLOTS))

    def _isolated(self, model: str) -> bool:
        backend = self.scheduler.backends.get(model)
        return backend is not None and backend.breaker.state(self.now) is BreakerState.OPEN

    def _evictable(self) -> dict[str, Process]:
        return {model: self.processes[model] for model in self.placed(Phase.READY) if not self.models[model].pinned}

    def _idle(self) -> list[str]:
        return [model for model, process in self._evictable().items() if not process.leases]

    def _rested(self) -> list[str]:
        """The idle backends whose linger is over, where it is known."""
        if (linger := self.limits.linger) is None:
            return []
        return [model for model in self._idle() if self.processes[model].idle_since + linger <= self.now]

    def _served(self) -> list[str]:
        """The backends that have had their turn."""
        residency = self.limits.min_residency
        return [model for model, process in self._evictable().items() if process.ready_since + residency <= self.now]

    def _yielding(self) -> list[str]:
        """Those who drain to make room for others."""
        draining = self.in_phase(Phase.DRAINING)
        return [model for model in draining if self.processes[model].leaving is StopReason.FAIRNESS]
