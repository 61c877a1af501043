"""What the gateway answers.

Owns the table of the gateway's own routes and the order in which a request is judged, and answers what no other room
answers.
"""

import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from llamaproxy import __version__, scope
from llamaproxy.core import routing
from llamaproxy.errors import GatewayError, MethodNotAllowed, NotFound
from llamaproxy.server import page
from llamaproxy.server.admin import Admin
from llamaproxy.server.answers import error_response, json_response
from llamaproxy.server.captures import CaptureRoutes
from llamaproxy.server.captures import names_one as names_capture
from llamaproxy.server.gateway import Gateway
from llamaproxy.server.inbound import Inbound, Request, close_after
from llamaproxy.server.logs import LogRoutes
from llamaproxy.server.openai import describe, model_list
from llamaproxy.server.passthrough import STARTED, ClientGone, Sent
from llamaproxy.server.proxy import Proxy
from llamaproxy.server.requests import Requests
from llamaproxy.server.splice import cut_off
from llamaproxy.server.stamp import request_id, stamp
from llamaproxy.server.upgrade import Upgrades, wanted_key

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """The gateway as a handler of requests."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._current = gateway.current
        self._proxy = Proxy(gateway.current, gateway.pool, gateway.ledger, gateway.captures)
        self._upgrades = Upgrades(gateway.current, gateway.pool, gateway.ledger)
        self._requests = requests = Requests(gateway.history)
        admin = Admin(gateway.current, gateway.pool, gateway.history, gateway.reloader, gateway.carrier)
        self._captures = captures = CaptureRoutes(gateway.captures)
        logs = LogRoutes(gateway.logs)
        self._routes: dict[str, dict[str, Handler]] = {
            "/": {"GET": page.index},
            "/health": {"GET": self._health},
            "/ready": {"GET": self._ready},
            "/v1/models": {"GET": self._models},
            "/models": {"GET": self._models},
            "/models/load": {"POST": admin.load},
            "/models/unload": {"POST": admin.unload},
            "/api/health": {"GET": admin.health},
            "/api/models": {"GET": admin.models},
            "/api/reload": {"POST": admin.reload},
            "/api/requests": {"GET": requests.page},
            "/api/usage": {"GET": requests.usage},
            "/api/captures": {"DELETE": captures.clear},
            "/api/logs": {"GET": logs.page, "DELETE": logs.clear},
            "/api/logs/level": {"GET": logs.level, "PATCH": logs.change_level},
        }
        self._spelled = self._routes.keys() | routing.ENDPOINTS.keys()

    def inbound(self) -> Inbound:
        """The server of connections, to be run."""
        return Inbound(self._handle, lambda: self._current.config.server.header_timeout)

    async def _handle(self, request: Request) -> web.StreamResponse:
        """From a request that is well-formed to its answer, whatever happens."""
        scope.request_id.set(request_id(request))
        guard = self._current.guard
        # Most clients spell paths as the tables do. Looking is cheaper than parsing.
        path = request.raw_path
        if path not in self._spelled:
            path = routing.normalise(request.path)
        try:
            guard.check(request.method, path, request.headers)
            response = await self._dispatch(request, path)
        except GatewayError as error:
            response = error_response(error, routing.dialect_of(path))
        except ClientGone:
            response = web.Response(status=499, reason="Client Closed Request")
        except HttpProcessingError:
            raise  # broken framing; `inbound` refuses it as it does with heads
        except Exception:
            log.exception("request %s failed", request_id(request))
            if request.get(STARTED) or request.writer.output_size:
                cut_off(request)
            failure = GatewayError("the gateway failed; its log says why")
            response = error_response(failure, routing.dialect_of(path))
        if not response.prepared and not isinstance(response, Sent):
            response.headers.update(stamp(request, guard))
            if not request.complete:
                await close_after(request, response)
        return response

    async def _dispatch(self, request: Request, path: str) -> web.StreamResponse:
        method = request.method
        if method == "OPTIONS":
            return self._preflight(request)
        if methods := self._routes.get(path):
            if handler := methods.get("GET" if method == "HEAD" else method):
                return await handler(request)
            raise MethodNotAllowed.taking(path, methods)
        if path.startswith("/upstream/"):
            if key := wanted_key(request):
                return await self._upgrades.serve(request, key)
            return await self._proxy.upstream_route(request)
        if path.startswith("/v1/models/") and method in ("GET", "HEAD"):
            return self._model(path.removeprefix("/v1/models/"))
        if names_capture(path):
            return await self._captures.one(request, path)
        if path.startswith("/api/requests/") and request.method in ("GET", "HEAD"):
            return await self._requests.one(path.removeprefix("/api/requests/"))
        path, endpoint = routing.resolve(path)
        if endpoint:
            return await self._proxy.engine_route(request, path, endpoint)
        raise NotFound(f"there is no {path[:200]!r} here")

    def _preflight(self, request: web.Request) -> web.Response:
        """RFC 9110 says what OPTIONS means; the Fetch standard, "CORS protocol", what a browser wants to hear."""
        headers = {"Allow": "GET, HEAD, POST, OPTIONS"}
        if self._current.guard.allows_origin(request.headers.get("Origin", "")):
            wanted = request.headers.get("Access-Control-Request-Headers", "content-type, authorization")
            headers |= {
                "Access-Control-Allow-Methods": "GET, POST",
                "Access-Control-Allow-Headers": wanted,
                "Access-Control-Max-Age": "600",
            }
        return web.Response(status=204, headers=headers)

    async def _health(self, request: web.Request) -> web.Response:
        return json_response({"status": "ok", "version": __version__})

    async def _ready(self, request: web.Request) -> web.Response:
        reason = "shutting down" if self._gateway.draining else self._gateway.missing_engine()
        if reason:
            return json_response({"status": "not ready", "reason": reason}, 503, {"Retry-After": "10"})
        return json_response({"status": "ready"})

    async def _models(self, request: web.Request) -> web.Response:
        gateway = self._gateway
        return json_response(
            model_list(gateway.catalogue, gateway.pool, gateway.headers, time.monotonic(), gateway.created)
        )

    def _model(self, name: str) -> web.Response:
        gateway = self._gateway
        model = gateway.catalogue.resolve(name)
        backend = gateway.pool.backends[model.name]
        return json_response(describe(model, backend, gateway.headers, time.monotonic(), gateway.created))
