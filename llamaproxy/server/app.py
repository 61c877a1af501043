"""What the gateway answers.

Owns the table of the gateway's own routes and the order in which a request is judged, and answers what no other room
answers.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from llamaproxy import __version__, scope
from llamaproxy.core import routing
from llamaproxy.core.keys import Key
from llamaproxy.core.routing import Dialect
from llamaproxy.errors import GatewayError, MethodNotAllowed, NotFound
from llamaproxy.server import live, page, quota
from llamaproxy.server.answers import error_response, json_response
from llamaproxy.server.api import api_routes
from llamaproxy.server.captures import CaptureRoutes
from llamaproxy.server.configuration import Configuration
from llamaproxy.server.deploy import Deploy
from llamaproxy.server.flights import reason
from llamaproxy.server.front import Front, Route
from llamaproxy.server.gateway import Gateway
from llamaproxy.server.guard import Guard
from llamaproxy.server.health import Health
from llamaproxy.server.inbound import Inbound
from llamaproxy.server.incoming import Request
from llamaproxy.server.keyroutes import KeyRoutes
from llamaproxy.server.live import Live
from llamaproxy.server.live_events import Events
from llamaproxy.server.live_topics import ConfigTopic, LogsTopic, MetricsTopic, ModelsTopic, RequestsTopic
from llamaproxy.server.lmstudio import LmStudio
from llamaproxy.server.logs import LogRoutes
from llamaproxy.server.metrics import Metrics
from llamaproxy.server.modelroutes import ModelRoutes
from llamaproxy.server.models import Models
from llamaproxy.server.ollama import Ollama
from llamaproxy.server.ollama_models import OllamaModels
from llamaproxy.server.openai import describe, model_list
from llamaproxy.server.parting import close_after
from llamaproxy.server.passthrough import STARTED, ClientGone, Sent
from llamaproxy.server.progress import Progress
from llamaproxy.server.proxy import Proxy
from llamaproxy.server.refusals import Refusals
from llamaproxy.server.requests import Requests
from llamaproxy.server.shownmodel import Observed
from llamaproxy.server.signin import SignIn
from llamaproxy.server.splice import cut_off
from llamaproxy.server.stamp import request_id, stamp
from llamaproxy.server.system import System
from llamaproxy.server.upgrade import Upgrades, wanted_key

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """The gateway as a handler of requests."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._current = gateway.current
        flights = gateway.flights
        progress = Progress(gateway.ledger, flights, gateway.pool)
        self._quota = quota.Quota()
        self._refusals = Refusals(gateway.ledger, gateway.traffic)
        self._proxy = Proxy(gateway.current, gateway.pool, gateway.ledger, flights, gateway.captures)
        self._upgrades = Upgrades(gateway.current, gateway.pool, gateway.ledger, flights)
        models = Models(
            *(gateway.current, gateway.pool, gateway.reloader, gateway.carrier, gateway.headers),
            gateway.model_history,
            self._observed,
            gateway.expected,
        )
        system = System(gateway.pool, gateway.history, gateway.traffic, gateway.monitor)
        self.api = api_routes(
            models,
            Requests(gateway.history, flights, gateway.traffic, progress),
            Configuration(gateway.current, gateway.reloader),
            Health(gateway.history, gateway.reloader),
            system,
            KeyRoutes(gateway.current, gateway.keyring),
            LogRoutes(gateway.logs),
            CaptureRoutes(gateway.captures),
            ModelRoutes(models, gateway.pool, gateway.reloader),
            SignIn(gateway.current),
            Deploy(
                gateway.current, gateway.downloads, lambda: sum(gpu.memory_total or 0 for gpu in gateway.monitor.gpus)
            ),
            self._proxy.chat,
        )
        topics = {
            "models": ModelsTopic(gateway.current, models),
            "metrics": MetricsTopic(gateway.current, system),
            "requests": RequestsTopic(gateway.ledger, progress),
            "logs": LogsTopic(gateway.logs),
            "config": ConfigTopic(gateway.current),
        }
        self.live = Live(gateway.current, Events(self.api), topics)
        kv = gateway.carrier.counts
        metrics = Metrics(gateway.pool, gateway.history, gateway.traffic, gateway.monitor, kv, self.live)
        self._routes: dict[str, dict[str, Handler]] = {
            "/health": {"GET": self._health},
            "/ready": {"GET": self._ready},
            "/metrics": {"GET": metrics.page},
            "/v1/models": {"GET": self._models},
            "/models": {"GET": self._models},
            "/models/load": {"POST": models.load},
            "/models/unload": {"POST": models.unload},
        }
        self._spelled = self._routes.keys() | routing.ENDPOINTS.keys()

    def _observed(self, name: str) -> Observed:
        gateway = self._gateway
        log = gateway.logs.files.path(name) if gateway.logs.files else None
        latency, version = gateway.traffic.latency(name), gateway.monitor.engines.version(name)
        return Observed(latency, version, str(log) if log else None)

    def inbounds(self) -> dict[str, Inbound]:
        """The servers of connections, to be run, by the key in `server` that has the port."""
        gateway = self._gateway
        current, pool, headers = gateway.current, gateway.pool, gateway.headers
        fronts: dict[str, Front] = {
            "ollama_port": Ollama(current, pool, self._proxy, OllamaModels(current, pool, headers, gateway.created)),
            "lmstudio_port": LmStudio(current, pool, self._proxy, headers),
        }
        wanted = (name for name in fronts if getattr(self._current.config.server, name) is not None)
        return {"port": self.inbound(), **{name: self.inbound(fronts[name]) for name in wanted}}

    def inbound(self, front: Front | None = None) -> Inbound:
        """The server of one listener's connections. With a front it speaks that API, and OpenAI's."""
        return Inbound(
            partial(self._handle, front=front) if front else self._handle,
            lambda: self._current.config.server.header_timeout,
            lambda: self._current.base_path,
            lambda: self._current.deadlines.idle,
        )

    async def _handle(self, request: Request, front: Front | None = None) -> web.StreamResponse:
        """From a request that is well-formed to its answer, whatever happens."""
        scope.request_id.set(request_id(request))
        guard = self._current.guard
        # Most clients spell paths as the tables do. Looking is cheaper than parsing.
        path = request.raw_path
        if path not in self._spelled:
            path = routing.normalise(request.path)
        show_page = None if front else page.handler(request, path)
        route = front.find(path) if front else None
        try:
            like = route.like if route else "/" if show_page else path
            if key := self._admit(request, like, guard):
                self._quota.enter(request, key)
            if front:
                response = await self._serve(request, path, route)
            else:
                response = await (show_page(request) if show_page else self._dispatch(request, path))
        except GatewayError as error:
            response = error_response(error, _dialect(path, front))
        except asyncio.CancelledError as error:
            response = error_response(reason(request, error), _dialect(path, front))
            if request.get(STARTED):
                cut_off(request)
        except ClientGone:
            response = web.Response(status=499, reason="Client Closed Request")
        except HttpProcessingError:
            raise  # broken framing; `inbound` refuses it as it does with heads
        except Exception:  # the last one who can answer, and in the words of the API
            log.exception("request %s failed", request_id(request))
            if request.get(STARTED) or request.writer.output_size:
                cut_off(request)
            failure = GatewayError("the gateway failed; its log says why")
            response = error_response(failure, _dialect(path, front))
        if not isinstance(response, Sent) and not response.prepared:
            response.headers.update(stamp(request, guard))
            if not request.complete:
                await close_after(request, response)
        return response

    async def _serve(self, request: Request, path: str, route: Route | None) -> web.StreamResponse:
        """On a listener with a front: what is neither its own nor OpenAI's is not there."""
        if route and request.method != "OPTIONS":
            return await route.handler(request.method, path)(request)
        if route or path.startswith("/v1/") or path == "/health":
            return await self._dispatch(request, path)
        raise NotFound(f"there is no {path[:200]!r} here")

    def _dispatch(self, request: Request, path: str) -> Awaitable[web.StreamResponse]:
        method = request.method
        if method == "OPTIONS":
            return self._preflight(request)
        if endpoint := routing.ENDPOINTS.get(path):
            return self._proxy.engine_route(request, path, endpoint)
        if methods := self._routes.get(path):
            if handler := methods.get("GET" if method == "HEAD" else method):
                return handler(request)
            raise MethodNotAllowed.taking(path, methods)
        if path.startswith("/upstream/"):
            if key := wanted_key(request):
                return self._upgrades.serve(request, key)
            return self._proxy.upstream_route(request)
        if path.startswith("/v1/models/") and method in ("GET", "HEAD"):
            return self._model(request, path.removeprefix("/v1/models/"))
        if path.startswith("/api/"):
            return self.api.serve(request)
        if path == live.PATH:
            return self.live.serve(request)
        path, endpoint = routing.resolve(path)
        if endpoint:
            return self._proxy.engine_route(request, path, endpoint)
        missing = NotFound(f"there is no {path[:200]!r} here")
        self._refusals.tell(request, path, missing)
        raise missing

    def _admit(self, request: Request, path: str, guard: Guard) -> Key | None:
        try:
            return guard.check(request.method, path, request.headers)
        except GatewayError as error:
            self._refusals.tell(request, path, error)
            raise

    async def _preflight(self, request: web.Request) -> web.Response:
        """RFC 9110 says what OPTIONS means; the Fetch standard, "CORS protocol", what a browser wants to hear."""
        methods = self._methods(request)
        headers = {"Allow": ", ".join(dict.fromkeys([*methods, "HEAD", "OPTIONS"]))}
        if self._current.guard.allows_origin(request.headers.get("Origin", "")):
            wanted = request.headers.get("Access-Control-Request-Headers", "content-type, authorization")
            headers |= {
                "Access-Control-Allow-Methods": ", ".join(methods),
                "Access-Control-Allow-Headers": wanted,
                "Access-Control-Max-Age": "600",
            }
        return web.Response(status=204, headers=headers)

    def _methods(self, request: web.Request) -> Collection[str]:
        """Of what is there, or elsewhere those that something could have: a browser that asks wants to see the 404."""
        path = routing.normalise(request.path)
        if known := self.api.methods(request.rel_url.raw_path) or self._routes.get(path):
            return known
        _, endpoint = routing.resolve(path)
        return sorted(endpoint.methods) if endpoint and endpoint.methods else ("GET", "POST")

    async def _health(self, request: web.Request) -> web.Response:
        return json_response({"status": "ok", "version": __version__})

    async def _ready(self, request: web.Request) -> web.Response:
        reason = "shutting down" if self._gateway.draining else self._gateway.missing_engine()
        if reason:
            return json_response({"status": "not ready", "reason": reason}, 503, {"Retry-After": "10"})
        return json_response({"status": "ready"})

    async def _models(self, request: web.Request) -> web.Response:
        gateway, now = self._gateway, time.monotonic()
        allowed = partial(quota.may_use, request)
        return json_response(
            model_list(gateway.catalogue, gateway.pool, gateway.headers, now, gateway.created, allowed)
        )

    async def _model(self, request: web.Request, name: str) -> web.Response:
        gateway = self._gateway
        model = gateway.catalogue.resolve(name)
        quota.check_model(request, model)
        backend = gateway.pool.backends[model.name]
        return json_response(describe(model, backend, gateway.headers, time.monotonic(), gateway.created))


def _dialect(path: str, front: Front | None) -> Dialect:
    """Whose words an error has: on a listener with a front its own, but for OpenAI's routes and their kin."""
    return routing.dialect_of(path) if front is None or path.startswith("/v1/") else front.dialect
