"""Ollama's API, for clients that know no other: the handlers of `server.ollama_port`.

Owns which route is which request of the engine, and what is refused because models are the configuration's here. The
words are `core/ollama`'s and `core/ollama_answer`'s; the way to the engine is that of every request.
"""

import time
from functools import partial
from typing import Any, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel

from llamaproxy import __version__
from llamaproxy.backends.pool import Pool
from llamaproxy.core import ollama, routing, wish
from llamaproxy.core.ollama import Chat, Embed, Embeddings, Generate, Json, Named
from llamaproxy.core.ollama_answer import Occasion, Shape, Telling, Vectors, as_message, as_response, idle
from llamaproxy.core.routing import Dialect
from llamaproxy.errors import InvalidRequest, NotImplementedHere
from llamaproxy.models.catalogue import Model
from llamaproxy.server import quota
from llamaproxy.server.answers import json_response
from llamaproxy.server.current import Current
from llamaproxy.server.front import Handler, Route
from llamaproxy.server.ollama_models import OllamaModels
from llamaproxy.server.outgoing import JSON, Translated
from llamaproxy.server.posted import as_value
from llamaproxy.server.proxy import CHAT, Proxy
from llamaproxy.server.retold import Retelling
from llamaproxy.telemetry.ledger import RequestRow

VERSION = "0.12.6"
"""The release of Ollama whose API this is: some clients refuse to talk to an early one."""
_COMPLETIONS, _INFILL, _EMBEDDINGS = "/v1/completions", "/infill", "/v1/embeddings"
_TAG = ":latest"
_NOT_HERE = ("/api/push", "/api/create", "/api/copy", "/api/delete")

A = TypeVar("A", bound=BaseModel)


class Ollama:
    """A front."""

    dialect = Dialect.OLLAMA

    def __init__(self, current: Current, pool: Pool, proxy: Proxy, models: OllamaModels) -> None:
        self._current = current
        self._pool = pool
        self._proxy = proxy
        self._models = models
        self._routes = {
            "/": Route({"GET": self._root}, "/"),
            "/api/version": Route({"GET": self._version}, "/v1/models"),
            "/api/tags": Route({"GET": self._tags}, "/v1/models"),
            "/api/ps": Route({"GET": self._ps}, "/v1/models"),
            "/api/show": Route({"POST": self._show}, "/v1/models"),
            "/api/chat": Route({"POST": self._chat}, CHAT),
            "/api/generate": Route({"POST": self._generate}, CHAT),
            "/api/embed": Route({"POST": self._embed}, _EMBEDDINGS),
            "/api/embeddings": Route({"POST": self._embeddings}, _EMBEDDINGS),
            "/api/pull": Route({"POST": self._pull}, "/v1/models"),
        }
        refused: dict[str, Handler] = dict.fromkeys(("POST", "DELETE"), self._refuse)
        self._routes |= {path: Route(refused, "/v1/models") for path in _NOT_HERE}

    def find(self, path: str) -> Route | None:
        return self._routes.get(path)

    async def _root(self, request: web.Request) -> web.Response:
        """Clients look for these words, or for any answer."""
        return web.Response(text="Ollama is running")

    async def _version(self, request: web.Request) -> web.Response:
        return json_response({"version": VERSION, "llamaproxy": __version__})

    async def _tags(self, request: web.Request) -> web.Response:
        return json_response({"models": self._models.listed(partial(quota.may_use, request))})

    async def _ps(self, request: web.Request) -> web.Response:
        return json_response({"models": self._models.running(partial(quota.may_use, request))})

    async def _show(self, request: web.Request) -> web.Response:
        asked = _understood(await self._proxy.content(request), Named)
        model = self._resolve(asked.said)
        quota.check_model(request, model)
        return json_response(self._models.details(model))

    async def _pull(self, request: web.Request) -> web.Response:
        """Some clients pull whatever they are about to use."""
        asked = _understood(await self._proxy.content(request), Named)
        if asked.said and self._find(asked.said):
            return web.Response(body=b'{"status":"success"}\n', content_type="application/x-ndjson")
        raise NotImplementedHere("models are not pulled through Ollama's API here: `llamaproxy pull` does it")

    async def _refuse(self, request: web.Request) -> web.Response:
        raise NotImplementedHere("models are not made, changed or removed through Ollama's API here")

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        with self._proxy.rows.recorded(request, "api/chat", self.dialect) as row:
            asked = _understood(await self._proxy.read(request, row), Chat)
            model, occasion = self._resolve(asked.model), _occasion(asked.model, row)
            if not asked.messages:
                return await self._settle(request, row, model, asked.unloads, occasion, as_message)
            telling = Telling(occasion, as_message)
            return await self._answer(request, row, model, CHAT, ollama.chat_body(asked), telling)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        with self._proxy.rows.recorded(request, "api/generate", self.dialect) as row:
            asked = _understood(await self._proxy.read(request, row), Generate)
            if asked.template:
                raise InvalidRequest("`template` cannot be set here: a model has its own", param="template")
            model, occasion = self._resolve(asked.model), _occasion(asked.model, row)
            if not (asked.prompt or asked.suffix or asked.images):
                return await self._settle(request, row, model, asked.unloads, occasion, as_response)
            path, body = _generation(asked)
            return await self._answer(request, row, model, path, body, Telling(occasion, as_response))

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        with self._proxy.rows.recorded(request, "api/embed", self.dialect) as row:
            asked = _understood(await self._proxy.read(request, row), Embed)
            model, occasion = self._resolve(asked.model), _occasion(asked.model, row)
            if not asked.input:
                told = {"model": asked.model, "embeddings": []}
                return await self._load(request, row, model, asked.unloads, told)
            body = ollama.embedding_body(asked.model, asked.input, asked.dimensions)
            return await self._answer(request, row, model, _EMBEDDINGS, body, Vectors(occasion))

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        with self._proxy.rows.recorded(request, "api/embeddings", self.dialect) as row:
            asked = _understood(await self._proxy.read(request, row), Embeddings)
            model, occasion = self._resolve(asked.model), _occasion(asked.model, row)
            if not asked.prompt:
                return await self._load(request, row, model, asked.unloads, {"embedding": []})
            body = ollama.embedding_body(asked.model, asked.prompt)
            return await self._answer(request, row, model, _EMBEDDINGS, body, Vectors(occasion, one=True))

    async def _answer(
        self, request: web.Request, row: RequestRow, model: Model, path: str, body: Json, retelling: Retelling
    ) -> web.StreamResponse:
        streams = body.get("stream") is True
        endpoint = routing.ENDPOINTS[path]
        sent = Translated(path, endpoint, orjson.dumps(body), streams, self.dialect, retelling)
        return await self._proxy.translated(request, row, model, sent)

    async def _settle(
        self, request: web.Request, row: RequestRow, model: Model, unloads: bool, occasion: Occasion, shape: Shape
    ) -> web.Response:
        response = await self._load(request, row, model, unloads, {})
        response.body = orjson.dumps(idle(occasion, shape, "unload" if unloads else "load"))
        return response

    async def _load(
        self, request: web.Request, row: RequestRow, model: Model, unloads: bool, told: Json
    ) -> web.Response:
        """A request without content is about the model: it loads it, or ends it."""
        if unloads:
            # Who may not by the gateway's own route may not by this one.
            self._current.guard.check(request.method, "/models/unload", request.headers)
            quota.check_model(request, model)
            row.model = model.name
            self._pool.stop(model.name)
            self._proxy.rows.answered(row)
        else:
            await self._proxy.load(request, row, model)
        return json_response(told)

    def _find(self, name: str) -> Model | None:
        """A tag says nothing here, but where it is a part of a model's name."""
        catalogue = self._current.catalogue
        return catalogue.find(name) or catalogue.find(name.removesuffix(_TAG))

    def _resolve(self, name: str | None) -> Model:
        """Raises ModelNotFound or InvalidRequest."""
        if not name:
            raise InvalidRequest("`model` is missing", param="model")
        return self._find(name) or self._current.catalogue.resolve(name)


def _occasion(model: str, row: RequestRow) -> Occasion:
    since = time.monotonic()
    return Occasion(model, row.started_at, lambda: time.monotonic() - since, lambda: (row.load_ms or 0.0) / 1000)


def _generation(asked: Generate) -> tuple[str, Json]:
    if asked.suffix:
        return _INFILL, ollama.infill_body(asked)
    return (_COMPLETIONS, ollama.raw_body(asked)) if asked.raw else (CHAT, ollama.generate_body(asked))


def _understood(content: bytes, kind: type[A]) -> A:
    """Whatever its Content-Type says: curl and others call JSON a form. Raises InvalidRequest or InvalidJson."""
    wish.read(content, JSON)
    document: Any = orjson.loads(content or b"{}")
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    return as_value(document, kind)
