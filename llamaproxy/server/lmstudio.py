"""LM Studio's REST API, for clients that know no other: the handlers of `server.lmstudio_port`.

Owns which route is which of the engine, and how models are listed. It is OpenAI's API with more fields, which
`core/lmstudio` adds. Looking at models starts none.
"""

import time
from pathlib import Path
from typing import Any

from aiohttp import web

from llamaproxy.backends.pool import Pool
from llamaproxy.core import routing, wish
from llamaproxy.core.lmstudio import Surroundings, WithStats
from llamaproxy.core.routing import Dialect
from llamaproxy.core.states import BackendState
from llamaproxy.models.catalogue import Model
from llamaproxy.models.headers import Headers
from llamaproxy.server import quota
from llamaproxy.server.answers import json_response
from llamaproxy.server.current import Current
from llamaproxy.server.front import Route
from llamaproxy.server.ollama_models import capabilities
from llamaproxy.server.outgoing import JSON, Translated
from llamaproxy.server.proxy import CHAT, Proxy

_COMPLETIONS, _EMBEDDINGS = "/v1/completions", "/v1/embeddings"
_PREFIX, _MODELS = "/api/v0", "/api/v0/models"
_LOADED = (BackendState.READY, BackendState.DRAINING)


class LmStudio:
    """A front."""

    dialect = Dialect.OPENAI

    def __init__(self, current: Current, pool: Pool, proxy: Proxy, headers: Headers) -> None:
        self._current = current
        self._pool = pool
        self._proxy = proxy
        self._headers = headers
        self._model = Route({"GET": self._one}, "/v1/models")
        self._routes = {
            _MODELS: Route({"GET": self._all}, "/v1/models"),
            f"{_PREFIX}/chat/completions": Route({"POST": self._answer}, CHAT),
            f"{_PREFIX}/completions": Route({"POST": self._answer}, _COMPLETIONS),
            f"{_PREFIX}/embeddings": Route({"POST": self._embed}, _EMBEDDINGS),
        }

    def find(self, path: str) -> Route | None:
        """A model's name may have slashes in it."""
        return self._routes.get(path) or (self._model if path.startswith(f"{_MODELS}/") else None)

    async def _all(self, request: web.Request) -> web.Response:
        models = self._current.catalogue.models.values()
        listed = (model for model in models if not model.config.unlisted and quota.may_use(request, model))
        return json_response({"object": "list", "data": [self._shown(model) for model in listed]})

    async def _one(self, request: web.Request) -> web.Response:
        name = routing.normalise(request.path).removeprefix(f"{_MODELS}/")
        model = self._current.catalogue.resolve(name)
        quota.check_model(request, model)
        return json_response(self._shown(model))

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        """Nothing is added to embeddings."""
        return await self._proxy.engine_route(request, _EMBEDDINGS, routing.ENDPOINTS[_EMBEDDINGS])

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        name = routing.normalise(request.path)
        path = f"/v1{name.removeprefix(_PREFIX)}"
        endpoint, since = routing.ENDPOINTS[path], time.monotonic()
        with self._proxy.rows.recorded(request, name.lstrip("/"), self.dialect) as row:
            body = await self._proxy.read(request, row)
            wanted, stream = wish.read(body, JSON, endpoint)
            model = self._current.catalogue.resolve(wanted)
            retelling = WithStats(Surroundings(lambda: self._info(model), lambda: time.monotonic() - since))
            sent = Translated(path, endpoint, body, stream, self.dialect, retelling)
            return await self._proxy.translated(request, row, model, sent)

    def _shown(self, model: Model) -> dict[str, Any]:
        info = self._headers.peek(Path(model.config.path)) if model.config.path else None
        able, backend = capabilities(model, info), self._pool.backends[model.name]
        kind = "embeddings" if "embedding" in able else "vlm" if "vision" in able else "llm"
        publisher, _, _ = model.name.rpartition("/")
        loaded = backend.state in _LOADED
        own = self._info(model)
        return {
            "id": model.name,
            "object": "model",
            "type": kind,
            "publisher": publisher,
            "arch": own["arch"],
            "compatibility_type": own["format"],
            "quantization": own["quant"],
            "state": "loaded" if loaded else "not-loaded",
            "max_context_length": (info.context_length if info else None) or own["context_length"],
            **({"loaded_context_length": own["context_length"]} if loaded else {}),
            "capabilities": ["tool_use"] if "tools" in able else [],
        }

    def _info(self, model: Model) -> dict[str, Any]:
        info = self._headers.peek(Path(model.config.path)) if model.config.path else None
        return {
            "arch": info.architecture if info else "",
            "quant": (info.quantisation or "") if info else "",
            "format": "gguf" if model.config.path else "",
            "context_length": model.config.ctx_size or (info.context_length if info else None) or 0,
        }
