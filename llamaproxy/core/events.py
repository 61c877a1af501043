"""The scheduler's vocabulary: events that happened, effects that shall happen.

Frozen values without behaviour. Those that every request has are named tuples, which are made several times as fast as
frozen dataclasses. Times are seconds of one monotonic clock and are never stored in an event: `Scheduler.handle`
receives `now` beside it. `spawn` numbers one life of one backend process, so that news about an earlier process can be
told from news about the present one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from llamaproxy.config import BreakerConfig, LimitsConfig
from llamaproxy.core.breaker import BreakerState
from llamaproxy.core.footprint import Footprint
from llamaproxy.errors import GatewayError
from llamaproxy.modelconfig import ModelConfig


class Outcome(StrEnum):
    """What one lease says about its backend. Only FAILURE counts against the circuit breaker."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"


SUCCESS, FAILURE, NEUTRAL = Outcome
"""For those who ask with every request: a member is found ten times as fast by a name of its own."""


class StopReason(StrEnum):
    """Why a backend leaves; shown to people, and the `reason` label of the evictions metric."""

    EVICTED = "evicted"
    FAIRNESS = "fairness"
    TTL = "ttl"
    REQUESTED = "requested"
    OVER_LIMIT = "over_limit"
    UNHEALTHY = "unhealthy"
    RELOADED = "reloaded"
    SHUTDOWN = "shutdown"


class Grounds(StrEnum):
    """Why this idle backend was chosen to be evicted, and no other."""

    ONLY_ONE = "only_idle_one"
    PRIORITY = "lowest_priority"
    LEAST_RECENTLY_USED = "least_recently_used"
    LOADS_FASTEST = "loads_fastest"


class RequestArrived(NamedTuple):
    """A request wants `model`. It is rejected when `deadline` passes before a grant.

    `exclusive` requests get the backend to themselves: they are suspected of killing it.
    `light` requests cost the engine next to nothing and do not count towards the model's concurrency.
    `since` is the first arrival of a request that is being replayed: it goes before everyone who came later.
    `priority` is that of its key: the higher goes first in the queue of its model.
    """

    request: str
    model: str
    deadline: float
    light: bool = False
    since: float | None = None
    exclusive: bool = False
    priority: int = 0


@dataclass(frozen=True, slots=True)
class RequestLeft:
    """The client of a queued request went away."""

    request: str


class LeaseReleased(NamedTuple):
    """The last byte of a granted request went out, or its lease ended in any other way."""

    request: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BackendAnswered:
    """A granted request got the head of a good response: enough for a half-open breaker to let others in."""

    request: str


@dataclass(frozen=True, slots=True)
class BackendReady:
    model: str
    spawn: int


@dataclass(frozen=True, slots=True)
class BackendExited:
    """The process is gone and reaped, or never came to be.

    `error` answers those who wait for this start; `retry` says that starting again may help them, so they stay
    queued. `blameless`: it was killed from outside, which says nothing about the model.
    """

    model: str
    spawn: int
    error: GatewayError
    retry: bool = False
    blameless: bool = False


@dataclass(frozen=True, slots=True)
class StartRequested:
    """A person, or preload, wants the model resident. Closes its breaker."""

    model: str


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A person wants the model gone: in-flight requests end first, queued ones are rejected."""

    model: str


@dataclass(frozen=True, slots=True)
class RestartRequested:
    """A person wants a new process: in-flight requests end on the old one, queued ones wait for the new. Closes the
    model's breaker."""

    model: str


@dataclass(frozen=True, slots=True)
class BreakerResetRequested:
    """A person says that the model is well again."""

    model: str


@dataclass(frozen=True, slots=True)
class FootprintKnown:
    """How much memory the model takes, or is thought to take: a measurement goes before any estimate."""

    model: str
    footprint: Footprint
    measured: bool


@dataclass(frozen=True, slots=True)
class ModelsChanged:
    """From now on these are the models and the rules.

    `replaced` are models whose files are others now, under the same configuration.
    """

    models: Mapping[str, ModelConfig]
    limits: LimitsConfig
    breaker: BreakerConfig
    replaced: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DrainBegun:
    """The gateway is going down: no new request is admitted, those inside may end."""


@dataclass(frozen=True, slots=True)
class ShutdownDue:
    """The time to drain is over, or nothing is left: whoever still waits is rejected, every backend stops."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """`Scheduler.wake_at` has come."""


Event = (
    RequestArrived
    | RequestLeft
    | LeaseReleased
    | BackendAnswered
    | BackendReady
    | BackendExited
    | StartRequested
    | StopRequested
    | RestartRequested
    | BreakerResetRequested
    | FootprintKnown
    | ModelsChanged
    | DrainBegun
    | ShutdownDue
    | TimePassed
)


class Grant(NamedTuple):
    """The request holds a lease on this life of this backend until LeaseReleased."""

    request: str
    model: str
    spawn: int


@dataclass(frozen=True, slots=True)
class Reject:
    """The request is over; each Reject carries an exception of its own."""

    request: str
    error: GatewayError


@dataclass(frozen=True, slots=True)
class Start:
    """Start a process; ends in BackendReady or BackendExited."""

    model: str
    spawn: int


@dataclass(frozen=True, slots=True)
class Drain:
    """No new lease is granted; the process is still needed by those in flight. `successor` waits for the room."""

    model: str
    spawn: int
    reason: StopReason
    successor: str | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """A drain is called off: nobody needs the room any more."""

    model: str
    spawn: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End the process now, no lease is left on it; ends in BackendExited. `successor` gets the room, if known.

    `grounds` are for people who ask why it was this one.
    """

    model: str
    spawn: int
    reason: StopReason
    successor: str | None = None
    grounds: Grounds | None = field(default=None, compare=False)


Effect = Grant | Reject | Start | Drain | Resume | Stop


@dataclass(frozen=True, slots=True)
class BreakerMoved:
    """A circuit breaker is in another state than before; `reason` is the failure that counted last."""

    model: str
    spawn: int
    state: BreakerState
    reason: str


News = Start | Drain | Resume | Stop | BackendReady | BackendExited | BreakerMoved
"""What happens to backends, for those who only watch."""
