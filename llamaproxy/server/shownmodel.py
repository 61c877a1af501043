"""What is shown of a model: the shapes of answers, and what of a backend goes into them.

Owns names and units that programs rely on. Asks nobody and knows no route: `models` puts them together.
"""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field

from llamaproxy.core.backend import Backend
from llamaproxy.core.breaker import BreakerState
from llamaproxy.core.events import StopReason
from llamaproxy.core.footprint import Footprint
from llamaproxy.core.states import BackendState

Count = Annotated[int, Field(ge=0)]
Duration = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class ShownFootprint:
    """Memory in bytes; `devices` are the GPUs in the driver's order. Estimated until it is measured."""

    ram: Count
    devices: tuple[Count, ...]
    measured: bool


@dataclass(frozen=True, slots=True)
class ShownBreaker:
    """`reason` is the failure that counted last."""

    state: BreakerState
    reason: str


@dataclass(frozen=True, slots=True)
class ShownFailure:
    """`output` is what the engine printed before it ended, where it did."""

    reason: str
    output: str | None


@dataclass(frozen=True, slots=True)
class Observed:
    """What others know of a model. `latency_ms`: to the first byte of its last answer; `version`: the engine's own;
    `log`: the file with what its engine prints."""

    latency_ms: Duration | None = None
    version: str | None = None
    log: str | None = None


@dataclass(frozen=True, slots=True)
class ShownModel:
    """Times in seconds, but for those in `_ms`. `endpoint` is an OpenAI base path of this model's own, below the
    gateway's address; `port` where its engine listens on one; `leaving` is why its process is going, `starts` how many
    it has had; `source` says where the model comes from. `size` is that of its file in bytes; `context` in tokens, as
    configured, else as trained; `idle` counts since its last request, `starting_for` since a start began that is not
    over; `retry_in` is left until an open breaker lets a request try; `successor` is the model that the process leaves
    for. `latency_ms`: from its last request to the first byte of the answer; `version`: the engine's own; `log`: the
    file with what its engine prints."""

    name: str
    aliases: tuple[str, ...]
    description: str
    source: str
    kind: str
    path: str | None
    url: str | None
    size: Count | None
    quantisation: str | None
    context: Count | None
    endpoint: str
    state: BackendState
    pid: int | None
    port: int | None
    uptime: Duration | None
    idle: Duration | None
    starting_for: Duration | None
    ttl: Duration | None
    in_flight: Count
    queued: Count
    latency_ms: Duration | None
    pinned: bool
    starts: Count
    load_seconds: Duration | None
    footprint: ShownFootprint | None
    breaker: ShownBreaker
    retry_in: Duration | None
    last_failure: ShownFailure | None
    kv: dict[str, Any]
    leaving: StopReason | None
    successor: str | None
    version: str | None
    log: str | None


@dataclass(frozen=True, slots=True)
class ModelDetails(ShownModel):
    """`config` is every setting, secrets masked; `origins` say where each comes from, and `editable` which can be
    edited. `footprint` is estimated before the first start, too."""

    config: dict[str, Any]
    origins: dict[str, Any]
    editable: dict[str, bool]


@dataclass(frozen=True, slots=True)
class ModelPage:
    """All models, in the order of the configuration."""

    models: list[ShownModel]


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """A state of a model's process or of its circuit breaker (`breaker_...`), from `at` on, in seconds since the epoch.

    `reason` is a code, `text` a sentence; `seconds`: how long the state before it lasted.
    """

    at: float
    spawn: Count
    state: str
    reason: str | None
    detail: str | None
    seconds: Duration | None
    text: str


class EventPage(BaseModel):
    """Events of each model, oldest first; the first are those in force at `from`, which may be later than asked for."""

    range: str
    from_: float = Field(serialization_alias="from")
    to: float
    models: dict[str, list[ShownEvent]]


def idle(backend: Backend, now: float) -> float | None:
    """Seconds since its last request, of one that has none."""
    if backend.state is not BackendState.READY or backend.leases:
        return None
    return max(0.0, round(now - backend.idle_since, 1))


def starting_for(backend: Backend, now: float) -> float | None:
    """Seconds since its start began, of one that is not ready."""
    return max(0.0, round(now - backend.started_at, 1)) if backend.state is BackendState.STARTING else None


def retry_in(backend: Backend, now: float) -> float | None:
    """Seconds until an open breaker lets a request try."""
    is_open = backend.breaker.state(now) is BreakerState.OPEN
    return round(backend.breaker.retry_after(now), 1) if is_open else None


def footprint_of(known: Footprint | None, measured: bool) -> ShownFootprint | None:
    """None where nothing is known."""
    return ShownFootprint(**asdict(known), measured=measured) if known else None


def failure_of(backend: Backend) -> ShownFailure | None:
    """The newest one that its breaker counts, or that its process ended with."""
    if not (backend.breaker.reason or backend.last_words):
        return None
    return ShownFailure(backend.breaker.reason, backend.last_words)
