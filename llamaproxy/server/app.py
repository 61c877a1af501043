"""The composition root: builds every part, joins them, and answers what no other room answers.

Owns the table of the gateway's own routes and the order in which a request is judged. It is the only module that
knows all the others.
"""

import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from aiohttp import web

from llamaproxy import __version__
from llamaproxy.backends import arguments, command, engine, foreign, orphans
from llamaproxy.backends.carrier import Carrier
from llamaproxy.backends.command import Address
from llamaproxy.backends.life import Life
from llamaproxy.backends.pool import Pool
from llamaproxy.backends.ports import free_port
from llamaproxy.backends.readahead import ReadAhead
from llamaproxy.backends.spawn import Spawn
from llamaproxy.config import Config, ModelConfig
from llamaproxy.configfile import Fixed, Source
from llamaproxy.core import routing
from llamaproxy.core.footprint import Footprint
from llamaproxy.errors import (
    ConfigError,
    EngineMissing,
    GatewayError,
    InvalidModelFile,
    InvalidRequest,
    MethodNotAllowed,
    ModelStartFailed,
    NotFound,
    RequestTooLarge,
)
from llamaproxy.models import gguf
from llamaproxy.models.catalogue import Catalogue
from llamaproxy.models.estimate import estimate, files
from llamaproxy.models.gguf import GgufInfo
from llamaproxy.server import page, reload
from llamaproxy.server.admin import Admin
from llamaproxy.server.answers import error_response, json_response
from llamaproxy.server.current import Current
from llamaproxy.server.guard import check_exposure
from llamaproxy.server.openai import describe, model_list
from llamaproxy.server.passthrough import STARTED, ClientGone
from llamaproxy.server.proxy import Proxy
from llamaproxy.server.reload import Changes, Loaded, Reloader
from llamaproxy.server.splice import cut_off
from llamaproxy.server.stamp import request_id, stamp
from llamaproxy.telemetry.ledger import Ledger

log = logging.getLogger(__name__)

Signature = tuple[Path, int, int]
"""A version of a file: its path, size in bytes, and time of change in nanoseconds."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def check(config: Config) -> None:
    """Whether the configuration can be served at all. Raises ConfigError with one line per fault."""
    check_exposure(config)
    if config.engine.allow_unsafe_args:
        return
    faults = [f"engine.args: {fault}" for fault in arguments.faults(config.engine.args)]
    for name, model in config.models.items():
        faults += (f"models.{name}.args: {fault}" for fault in arguments.faults(model.args))
    if faults:
        raise ConfigError("\n".join(faults))


class Gateway:
    """All parts of one running gateway. Must be made inside a running event loop."""

    def __init__(self, config: Config, runtime_base: Path | None = None, source: Source | None = None) -> None:
        check(config)
        loaded = reload.load(config)
        reload.tell_problems(loaded.found)
        self.ledger = Ledger()
        self.current = Current.of(config, loaded.catalogue)
        self.reloader = Reloader(source or Fixed(config), self._apply, loaded)
        self._headers: dict[Signature, GgufInfo] = {}
        self.created = int(time.time())
        for pid in orphans.reap(runtime_base):
            log.warning("ended process %d, left behind by an earlier gateway", pid)
        self._run_directory = orphans.RunDirectory(runtime_base)
        self._watchdog = orphans.watch(self._run_directory.path) if orphans.NEEDS_WATCHDOG else None
        self._read_ahead = ReadAhead()
        self.carrier = Carrier(config.kv, config.engine)
        self.pool = Pool(loaded.catalogue.configs, config, self._launch, self._check_startable, self._expect)
        self.draining = False

    @property
    def config(self) -> Config:
        return self.current.config

    @property
    def catalogue(self) -> Catalogue:
        return self.current.catalogue

    def _apply(self, loaded: Loaded, changes: Changes) -> None:
        """Raises ConfigError. The address stays: changing it needs a new process."""
        server = self.config.server
        if (loaded.config.server.host, loaded.config.server.port) != (server.host, server.port):
            log.warning("server.host and server.port are taken over by a restart only")
        kept = loaded.config.server.model_copy(update={"host": server.host, "port": server.port})
        config = loaded.config.model_copy(update={"server": kept})
        check(config)
        self.current.replace(config, loaded.catalogue)
        self.pool.reconfigure(loaded.catalogue.configs, config, frozenset(changes.changed))
        self.carrier.reconfigure(config.kv, config.engine, changes.removed)
        logging.getLogger().setLevel(config.telemetry.log_level.upper())
        self._preload(changes.added)

    def preload(self) -> None:
        self._preload(self.catalogue.models)

    def _preload(self, names: Iterable[str]) -> None:
        for name in names:
            if self.catalogue.models[name].config.preload:
                try:
                    self.pool.start(name)
                except GatewayError as error:
                    log.error("preload: %s", error.message)

    async def close(self, drain_timeout: float) -> bool:
        """Drain, then stop everything; False where requests had to be cut off."""
        self.draining = True
        drained = await self.pool.close(drain_timeout)
        if self._watchdog:
            self._watchdog.kill()
            self._watchdog.wait()
        self._run_directory.close()
        return drained

    def missing_engine(self) -> str | None:
        """What to install, where there is no engine and a model needs one."""
        models = self.catalogue.models.values()
        if models and not any(model.config.path for model in models):
            return None
        try:
            engine.find(self.config.engine.binary)
        except EngineMissing as error:
            return error.message
        return None

    def _expect(self, name: str) -> None:
        self._read_ahead.expect(files(self.catalogue.models[name].config))

    def _check_startable(self, name: str) -> Footprint | None:
        """How much memory it will take. Raises EngineMissing or ModelStartFailed for what can be seen from here."""
        model = self.catalogue.models[name].config
        if model.path is None:
            foreign.check(name, model, self.config.engine, os.environ)
            return None
        engine.find(self.config.engine.binary)
        path = Path(model.path)
        try:
            status = path.stat()
        except FileNotFoundError as error:
            raise ModelStartFailed(f"{name}: the model file {path} does not exist") from error
        except OSError as error:
            raise ModelStartFailed(f"{name}: the model file {path} cannot be read: {error.strerror}") from error
        if not self._header(path, (path, status.st_size, status.st_mtime_ns)).complete:
            raise ModelStartFailed(f"{name}: the model file {path} is not complete")
        return self._estimate(model)

    def _estimate(self, model: ModelConfig) -> Footprint | None:
        """None where it cannot be told; the engine will have its own words about what is wrong."""
        config = self.config
        try:
            return estimate(model, (*config.engine.args, *model.args), config.limits.vram_budgets, self._read_header)
        except (OSError, ValueError, InvalidModelFile):
            return None

    def _read_header(self, path: Path) -> GgufInfo:
        status = path.stat()
        return self._header(path, (path, status.st_size, status.st_mtime_ns))

    def _header(self, path: Path, signature: Signature) -> GgufInfo:
        """Read once for each version of a file: it takes some milliseconds. Raises InvalidModelFile."""
        if signature not in self._headers:
            self._headers[signature] = gguf.read(path)
        return self._headers[signature]

    def _launch(self, name: str, number: int) -> Life:
        """Prepare a spawn. The engine is looked for each time: it may have been installed meanwhile."""
        model = self.catalogue.models[name].config
        if model.path is None:
            return foreign.prepare(name, number, model, self.config.engine, self._run_directory, os.environ)
        found = engine.find(self.config.engine.binary)
        carry = self.carrier.prepare(name, model, found)
        address = Address(socket=self._run_directory.socket(name, number))
        if model.port or not orphans.UNIX_SOCKETS:
            address = Address(port=model.port or free_port(), key=os.urandom(20).hex())
        slots = carry.directory if carry else None
        built = command.build(found.program, name, model, self.config.engine, address, os.environ, slots)
        return Spawn(name, number, address, built, self.config.engine, self._run_directory, carry=carry)


class Server:
    """The gateway as a web application."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._current = gateway.current
        self._proxy = Proxy(gateway.current, gateway.pool, gateway.ledger)
        admin = Admin(gateway.current, gateway.pool, gateway.ledger, gateway.reloader, gateway.carrier)
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
            "/api/requests": {"GET": admin.requests},
        }

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._middleware])
        app.router.add_route("*", "/{path:.*}", self._dispatch)
        app.on_response_prepare.append(self._stamp)
        return app

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Guards the door, and turns every error into its answer."""
        try:
            self._current.guard.check(request.method, routing.normalise(request.path), request.headers)
            return await handler(request)
        except GatewayError as error:
            return error_response(error, routing.dialect_of(request.path))
        except web.HTTPException as error:
            return error_response(_from_aiohttp(error), routing.dialect_of(request.path))
        except ClientGone:
            return web.Response(status=499, reason="Client Closed Request")
        except Exception:
            log.exception("request %s failed", request_id(request))
            if request.get(STARTED):
                cut_off(request)
            failure = GatewayError("the gateway failed; its log says why")
            return error_response(failure, routing.dialect_of(request.path))

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        path = routing.normalise(request.path)
        if request.method == "OPTIONS":
            return self._preflight(request)
        if methods := self._routes.get(path):
            method = "GET" if request.method == "HEAD" else request.method
            if handler := methods.get(method):
                return await handler(request)
            raise MethodNotAllowed.taking(path, methods)
        if path.startswith("/upstream/"):
            return await self._proxy.upstream_route(request)
        if path.startswith("/v1/models/") and request.method in ("GET", "HEAD"):
            return self._model(path.removeprefix("/v1/models/"))
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

    async def _stamp(self, request: web.Request, response: web.StreamResponse) -> None:
        request[STARTED] = True
        response.headers.update(stamp(request, self._current.guard))

    async def _health(self, request: web.Request) -> web.Response:
        return json_response({"status": "ok", "version": __version__})

    async def _ready(self, request: web.Request) -> web.Response:
        reason = "shutting down" if self._gateway.draining else self._gateway.missing_engine()
        if reason:
            return json_response({"status": "not ready", "reason": reason}, 503, {"Retry-After": "10"})
        return json_response({"status": "ready"})

    async def _models(self, request: web.Request) -> web.Response:
        gateway = self._gateway
        return json_response(model_list(gateway.catalogue, gateway.pool, time.monotonic(), gateway.created))

    def _model(self, name: str) -> web.Response:
        gateway = self._gateway
        model = gateway.catalogue.resolve(name)
        return json_response(describe(model, gateway.pool.backends[model.name], time.monotonic(), gateway.created))


def _from_aiohttp(error: web.HTTPException) -> GatewayError:
    """What the web server itself refuses, as one of ours."""
    if error.status >= 500:
        return GatewayError(error.reason)
    kind = {404: NotFound, 413: RequestTooLarge}.get(error.status, InvalidRequest)
    return kind(error.reason)
