"""What operators see and do: models with their backends, and the last requests.

Reads only, apart from `load` and `unload`, which say what they do. Bodies of those are JSON and nothing else, so that
no form on a foreign page can send them.
"""

import asyncio
import time
from typing import Any

import orjson
from aiohttp import web

from llamaproxy.backends.carrier import Carrier
from llamaproxy.backends.pool import Pool
from llamaproxy.errors import InvalidJson, InvalidRequest, RequestTimeout, RequestTooLarge, UnsupportedMediaType
from llamaproxy.models.catalogue import Catalogue, Model
from llamaproxy.server.answers import json_response
from llamaproxy.telemetry.ledger import Ledger

_MOST_ROWS = 1000
_LARGEST_BODY = 64 * 1024
_BODY_TIMEOUT = 10.0
"""Seconds: these bodies name a model, and fit a packet."""


class Admin:
    """Handlers for the gateway's own routes."""

    def __init__(self, catalogue: Catalogue, pool: Pool, ledger: Ledger, carrier: Carrier) -> None:
        self._catalogue = catalogue
        self._pool = pool
        self._ledger = ledger
        self._carrier = carrier

    async def models(self, request: web.Request) -> web.Response:
        return json_response({"models": [self._model(model) for model in self._catalogue.models.values()]})

    async def requests(self, request: web.Request) -> web.Response:
        limit = request.query.get("limit", "100")
        if not limit.isdecimal() or len(limit) > 4 or not 1 <= int(limit) <= _MOST_ROWS:
            raise InvalidRequest(f"`limit` must be a number from 1 to {_MOST_ROWS}", param="limit")
        counts = {state.value: count for state, count in self._ledger.ended.items()}
        totals = {"received": self._ledger.received, "in_flight": self._ledger.in_flight, **counts}
        return json_response({"totals": totals, "requests": self._ledger.rows(int(limit))})

    async def load(self, request: web.Request) -> web.Response:
        """Start a model; answers at once."""
        self._pool.start((await self._named(request)).name)
        return json_response({"success": True})

    async def unload(self, request: web.Request) -> web.Response:
        """Stop a model once its requests have ended; answers at once."""
        self._pool.stop((await self._named(request)).name)
        return json_response({"success": True})

    async def _named(self, request: web.Request) -> Model:
        if request.content_type != "application/json":
            raise UnsupportedMediaType("the body must be sent as application/json")
        try:
            body = orjson.loads(await self._read(request))
        except orjson.JSONDecodeError as error:
            raise InvalidJson(f"the body is not valid JSON: {error}") from error
        name = body.get("model") if isinstance(body, dict) else None
        if not isinstance(name, str):
            raise InvalidRequest("`model` must be a string", param="model")
        return self._catalogue.resolve(name)

    async def _read(self, request: web.Request) -> bytes:
        if (request.content_length or 0) > _LARGEST_BODY:
            raise RequestTooLarge(f"the body is larger than {_LARGEST_BODY} bytes")
        try:
            async with asyncio.timeout(_BODY_TIMEOUT):
                return await request.read()
        except TimeoutError as error:
            raise RequestTimeout(f"the body did not arrive within {_BODY_TIMEOUT:.0f} s") from error
        except web.HTTPRequestEntityTooLarge as error:
            raise RequestTooLarge("the body is too large") from error

    def _model(self, model: Model) -> dict[str, Any]:
        backend = self._pool.backends[model.name]
        running = self._pool.running(model.name)
        now = time.monotonic()
        return {
            "name": model.name,
            "source": model.source,
            "path": model.config.path,
            "state": backend.state.value,
            "pid": running.pid if running else None,
            "uptime": round(now - running.started_at, 1) if running else None,
            "in_flight": len(backend.leases),
            "queued": len(backend.queue),
            "pinned": model.config.pinned,
            "starts": backend.spawn,
            "load_seconds": backend.load_seconds,
            "breaker": {"state": backend.breaker.state(now).value, "reason": backend.breaker.reason},
            "kv": self._carrier.describe(model.name, model.config),
            "leaving": backend.leaving.value if backend.leaving else None,
        }
