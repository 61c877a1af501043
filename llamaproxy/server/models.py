"""What operators see of models, and can do to them.

Owns where what is shown comes from: catalogue, scheduler, process. Its shapes are `shownmodel`'s. Looking starts
nothing. What a word means for a
model that is loading, draining or broken is the scheduler's to decide.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web

from llamaproxy import edits
from llamaproxy.backends.carrier import Carrier
from llamaproxy.backends.pool import Pool
from llamaproxy.core.footprint import Footprint
from llamaproxy.effective import Origin, Origins, model_values, shown_origins
from llamaproxy.errors import InvalidRequest
from llamaproxy.models.catalogue import Model
from llamaproxy.models.headers import Headers
from llamaproxy.server import adjust
from llamaproxy.server.answers import json_response
from llamaproxy.server.current import Current
from llamaproxy.server.posted import read_json
from llamaproxy.server.reload import Reloader
from llamaproxy.server.shownmodel import (
    ModelDetails,
    ModelPage,
    Observed,
    ShownBreaker,
    ShownModel,
    failure_of,
    footprint_of,
    idle,
    retry_in,
    starting_for,
)
from llamaproxy.telemetry.modelhistory import ModelHistory, parse_range


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
        fields["footprint"] = shown.footprint or footprint_of(self._expected(model.name), False)
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
            idle=idle(backend, now),
            starting_for=starting_for(backend, now),
            ttl=model.config.ttl,
            in_flight=len(backend.leases),
            queued=len(backend.queue),
            latency_ms=None if seen.latency_ms is None else round(seen.latency_ms, 1),
            pinned=model.config.pinned,
            starts=backend.spawn,
            load_seconds=backend.load_seconds,
            footprint=footprint_of(backend.footprint, backend.measured),
            breaker=ShownBreaker(backend.breaker.state(now), backend.breaker.reason),
            retry_in=retry_in(backend, now),
            last_failure=failure_of(backend),
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


def _origins_of(model: Model, origins: Origins) -> Origins:
    """Of the model's own settings. What a directory or the bundled wheel told of one is told by no layer."""
    above = ("models", model.name)
    own = {path[2:]: origin for path, origin in origins.items() if path[:2] == above}
    found: Origins = {} if model.source == "configured" else {("path",): Origin.FOUND, ("mmproj",): Origin.FOUND}
    return {**found, **own}
