"""What operators see of models, and can do to them.

Owns what is shown of a model, from catalogue, scheduler and process. Looking starts nothing. What a word means for a
model that is loading, draining or broken is the scheduler's to decide.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from aiohttp import web
from pydantic import BaseModel, Field

from llamaproxy import edits
from llamaproxy.backends.carrier import Carrier
from llamaproxy.backends.pool import Pool
from llamaproxy.core.backend import Backend
from llamaproxy.core.breaker import BreakerState
from llamaproxy.core.events import StopReason
from llamaproxy.core.footprint import Footprint
from llamaproxy.core.states import BackendState
from llamaproxy.effective import Origin, Origins, model_values, shown_origins
from llamaproxy.errors import InvalidRequest
from llamaproxy.models.catalogue import Model
from llamaproxy.models.headers import Headers
from llamaproxy.server import adjust
from llamaproxy.server.answers import json_response
from llamaproxy.server.current import Current
from llamaproxy.server.posted import read_json
from llamaproxy.server.reload import Reloader
from llamaproxy.telemetry.modelhistory import ModelHistory, parse_range

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


@dataclass(frozen=True, slots=True)
class Done:
    """It was taken in; what follows from it can be seen at the models."""

    success: bool


class Models:
    """Handlers for `/api/models`, and for llama-server's `/models/load` and `/models/unload`."""

    def __init__(
        self,
        current: Current,
        pool: Pool,
        reloader: Reloader,
        carrier: Carrier,
        headers: Headers,
        history: ModelHistory,
        observed: Callable[[str], Observed] = lambda name: Observed(),
        expected: Callable[[str], Footprint | None] = lambda name: None,
    ) -> None:
        self._headers = headers
        self._current = current
        self._pool = pool
        self._reloader = reloader
        self._carrier = carrier
        self._history = history
        self._observed = observed
        self._expected = expected

    async def page(self, request: web.Request) -> web.Response:
        return json_response(ModelPage(self.all()))

    def all(self) -> list[ShownModel]:
        """As they are now."""
        return [self._shown(model) for model in self._current.catalogue.models.values()]

    async def one(self, request: web.Request, name: str) -> web.Response:
        """Raises ModelNotFound."""
        return self.details(name)

    def details(self, name: str, status: int = 200) -> web.Response:
        """Raises ModelNotFound."""
        model = self._current.catalogue.resolve(name)
        values = model_values(model.config.model_dump(mode="json"))
        origins = shown_origins(values, _origins_of(model, self._reloader.origins))
        shown = self._shown(model)
        fields = {field: getattr(shown, field) for field in ShownModel.__dataclass_fields__}
        fields["footprint"] = shown.footprint or _shown_footprint(self._expected(model.name), False)
        editable = edits.editable_model(model.name, values, self._reloader.said)
        return json_response(ModelDetails(**fields, config=values, origins=origins, editable=editable), status)

    async def past(self, request: web.Request) -> web.Response:
        """What happened to the models. Raises InvalidRequest."""
        name = parse_range(request.query.get("range", "1h"))
        span = await self._history.span(name, self._current.catalogue.models)
        return json_response({"range": name, "from": span.begin, "to": span.end, "models": span.models})

    async def start(self, request: web.Request, name: str) -> web.Response:
        """Answers at once. Raises ModelNotFound, EngineMissing or ModelStartFailed."""
        return self._told(name, self._pool.start)

    async def stop(self, request: web.Request, name: str) -> web.Response:
        """Answers at once; requests in flight end first."""
        return self._told(name, self._pool.stop)

    async def restart(self, request: web.Request, name: str) -> web.Response:
        """Answers at once; requests in flight end first, those that wait go to the new process."""
        return self._told(name, self._pool.restart)

    async def reset_breaker(self, request: web.Request, name: str) -> web.Response:
        return self._told(name, self._pool.reset_breaker)

    async def pin(self, request: web.Request, name: str) -> web.Response:
        """Until the next reload."""
        return self._told(name, functools.partial(self._pin, pinned=True))

    async def unpin(self, request: web.Request, name: str) -> web.Response:
        return self._told(name, functools.partial(self._pin, pinned=False))

    async def load(self, request: web.Request) -> web.Response:
        """llama-server's way to start a model; answers at once."""
        self._pool.start((await self._named(request)).name)
        return json_response(Done(True))

    async def unload(self, request: web.Request) -> web.Response:
        """llama-server's way to stop one; answers at once."""
        self._pool.stop((await self._named(request)).name)
        return json_response(Done(True))

    def _told(self, name: str, command: Callable[[str], None]) -> web.Response:
        known = self._current.catalogue.resolve(name).name
        command(known)
        return json_response(self._shown(self._current.catalogue.models[known]))

    def _pin(self, name: str, pinned: bool) -> None:
        self._reloader.amend(lambda loaded: adjust.with_pin(loaded, name, pinned))

    async def _named(self, request: web.Request) -> Model:
        content = await read_json(request)
        name = content.get("model") if isinstance(content, dict) else None
        if not isinstance(name, str):
            raise InvalidRequest("`model` must be a string", param="model")
        return self._current.catalogue.resolve(name)

    def _shown(self, model: Model) -> ShownModel:
        backend = self._pool.backends[model.name]
        running = self._pool.running(model.name)
        seen = self._observed(model.name)
        now = time.monotonic()
        return ShownModel(
            name=model.name,
            aliases=model.config.aliases,
            description=model.config.description,
            source=model.source,
            kind=model.config.kind,
            path=model.config.path,
            url=model.config.url,
            **self._of_file(model),
            endpoint=f"/upstream/{quote(model.name, safe='')}/v1",
            state=backend.state,
            pid=running.pid if running else None,
            port=running.upstream.address.port if running else None,
            uptime=round(now - running.started_at, 1) if running else None,
            idle=_idle(backend, now),
            starting_for=_starting_for(backend, now),
            ttl=model.config.ttl,
            in_flight=len(backend.leases),
            queued=len(backend.queue),
            latency_ms=None if seen.latency_ms is None else round(seen.latency_ms, 1),
            pinned=model.config.pinned,
            starts=backend.spawn,
            load_seconds=backend.load_seconds,
            footprint=_shown_footprint(backend.footprint, backend.measured),
            breaker=ShownBreaker(backend.breaker.state(now), backend.breaker.reason),
            retry_in=_retry_in(backend, now),
            last_failure=_failure(backend),
            kv=self._carrier.describe(model.name, model.config),
            leaving=backend.leaving,
            successor=backend.successor,
            version=seen.version,
            log=seen.log,
        )

    def _of_file(self, model: Model) -> dict[str, Any]:
        """What is known of it without a look at the disk."""
        info = self._headers.peek(Path(model.config.path)) if model.config.path else None
        return {
            "size": info.file_size if info else None,
            "quantisation": info.quantisation if info else None,
            "context": model.config.ctx_size or (info.context_length if info else None),
        }


def _idle(backend: Backend, now: float) -> float | None:
    if backend.state is not BackendState.READY or backend.leases:
        return None
    return max(0.0, round(now - backend.idle_since, 1))


def _starting_for(backend: Backend, now: float) -> float | None:
    return max(0.0, round(now - backend.started_at, 1)) if backend.state is BackendState.STARTING else None


def _retry_in(backend: Backend, now: float) -> float | None:
    is_open = backend.breaker.state(now) is BreakerState.OPEN
    return round(backend.breaker.retry_after(now), 1) if is_open else None


def _shown_footprint(known: Footprint | None, measured: bool) -> ShownFootprint | None:
    return ShownFootprint(**asdict(known), measured=measured) if known else None


def _failure(backend: Backend) -> ShownFailure | None:
    if not (backend.breaker.reason or backend.last_words):
        return None
    return ShownFailure(backend.breaker.reason, backend.last_words)


def _origins_of(model: Model, origins: Origins) -> Origins:
    """Of the model's own settings. What a directory or the bundled wheel told of one is told by no layer."""
    above = ("models", model.name)
    own = {path[2:]: origin for path, origin in origins.items() if path[:2] == above}
    found: Origins = {} if model.source == "configured" else {("path",): Origin.FOUND, ("mmproj",): Origin.FOUND}
    return {**found, **own}
