"""What operators see and do: models with their backends, the gateway's health, the configuration.

Reads only, apart from `load`, `unload` and `reload`, which say what they do. Bodies of those are JSON and nothing
else, so that no form on a foreign page can send them.
"""

import asyncio
import time
from dataclasses import asdict
from typing import Any

from aiohttp import web

from llamaproxy import __version__
from llamaproxy.backends.carrier import Carrier
from llamaproxy.backends.pool import Pool
from llamaproxy.errors import InvalidRequest
from llamaproxy.models.catalogue import Model
from llamaproxy.server import body
from llamaproxy.server.answers import json_response
from llamaproxy.server.current import Current
from llamaproxy.server.reload import Reloader
from llamaproxy.telemetry.history import History

_LARGEST_BODY = 64 * 1024
_BODY_TIMEOUT = 10.0
"""Seconds: these bodies name a model, and fit a packet."""


class Admin:
    """Handlers for the gateway's own routes."""

    def __init__(self, current: Current, pool: Pool, history: History, reloader: Reloader, carrier: Carrier) -> None:
        self._current = current
        self._pool = pool
        self._history = history
        self._reloader = reloader
        self._carrier = carrier

    async def health(self, request: web.Request) -> web.Response:
        """Degraded where the gateway serves, and somebody should look. `tasks` grow with requests, and shrink again."""
        reloader = self._reloader
        config = {
            "file": str(reloader.file) if reloader.file else None,
            "loaded_at": round(reloader.loaded_at, 3),
            "error": reloader.error,
        }
        status = "degraded" if reloader.error or self._history.trouble else "ok"
        return json_response(
            {
                "status": status,
                "version": __version__,
                "tasks": len(asyncio.all_tasks()),
                "config": config,
                "requests": self._history.health(),
            }
        )

    async def reload(self, request: web.Request) -> web.Response:
        """Read the configuration again; answers once it is in force. Raises ConfigError."""
        await self._json(request)
        changes = await self._reloader.reload()
        return json_response({"success": True, **asdict(changes)})

    async def models(self, request: web.Request) -> web.Response:
        return json_response({"models": [self._model(model) for model in self._current.catalogue.models.values()]})

    async def load(self, request: web.Request) -> web.Response:
        """Start a model; answers at once."""
        self._pool.start((await self._named(request)).name)
        return json_response({"success": True})

    async def unload(self, request: web.Request) -> web.Response:
        """Stop a model once its requests have ended; answers at once."""
        self._pool.stop((await self._named(request)).name)
        return json_response({"success": True})

    async def _named(self, request: web.Request) -> Model:
        content = await self._json(request)
        name = content.get("model") if isinstance(content, dict) else None
        if not isinstance(name, str):
            raise InvalidRequest("`model` must be a string", param="model")
        return self._current.catalogue.resolve(name)

    async def _json(self, request: web.Request) -> Any:
        return await body.read_json(request, _LARGEST_BODY, _BODY_TIMEOUT)

    def _model(self, model: Model) -> dict[str, Any]:
        backend = self._pool.backends[model.name]
        running = self._pool.running(model.name)
        now = time.monotonic()
        return {
            "name": model.name,
            "source": model.source,
            "kind": model.config.kind,
            "path": model.config.path,
            "url": model.config.url,
            "state": backend.state.value,
            "pid": running.pid if running else None,
            "uptime": round(now - running.started_at, 1) if running else None,
            "in_flight": len(backend.leases),
            "queued": len(backend.queue),
            "pinned": model.config.pinned,
            "starts": backend.spawn,
            "load_seconds": backend.load_seconds,
            "footprint": {**asdict(backend.footprint), "measured": backend.measured} if backend.footprint else None,
            "breaker": {"state": backend.breaker.state(now).value, "reason": backend.breaker.reason},
            "kv": self._carrier.describe(model.name, model.config),
            "leaving": backend.leaving.value if backend.leaving else None,
        }
