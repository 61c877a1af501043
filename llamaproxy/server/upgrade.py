"""WebSockets below /upstream/{model}/: the only place where a connection may change its protocol.

Owns the row and the lease of each, from its handshake to its end. Bytes are the tunnel's; whether a request asks for
one is `core.websocket`'s word.
"""

import asyncio

from aiohttp import web

from llamaproxy.backends.lease import DEATH_NOTICE, Lease
from llamaproxy.backends.lost import UpstreamLost
from llamaproxy.backends.pool import Pool
from llamaproxy.core import headers, routing, websocket
from llamaproxy.core.limits import Want
from llamaproxy.core.response import BadResponse, Head
from llamaproxy.errors import (
    GatewayError,
    GatewayTimeout,
    InvalidRequest,
    RequestCancelled,
    UpstreamError,
    UpstreamStalled,
)
from llamaproxy.models.catalogue import Model
from llamaproxy.server import quota
from llamaproxy.server.account import backend_name
from llamaproxy.server.current import Current
from llamaproxy.server.flights import Flights
from llamaproxy.server.incoming import Request
from llamaproxy.server.passthrough import ClientConnection, ClientGone, Sent
from llamaproxy.server.stamp import request_id, stamp
from llamaproxy.server.tunnel import Far, Tunnel, reach
from llamaproxy.telemetry.ledger import Ledger, RequestRow, RequestState

_ENDPOINT = routing.upstream("GET", "")
_SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n"
_UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket"}


def wanted_key(request: Request) -> str | None:
    """The key of a request for a WebSocket; None for what is served as if it asked for nothing."""
    if "Upgrade" not in request.headers or not request.complete:
        return None
    return websocket.key_of(request.method, request.version, request.headers)


class Upgrades:
    """Answers requests that change the protocol."""

    def __init__(self, current: Current, pool: Pool, ledger: Ledger, flights: Flights) -> None:
        self._current = current
        self._pool = pool
        self._ledger = ledger
        self._flights = flights

    async def serve(self, request: Request, key: str) -> web.StreamResponse:
        """Returns when the WebSocket has ended. Raises GatewayError where it does not begin."""
        endpoint = _ENDPOINT
        row = RequestRow(request_id(request), endpoint.name, str(endpoint.dialect), request.remote or "", stream=True)
        row.key = quota.key_name(request)
        self._ledger.open(row)
        self._flights.begin(row, request)
        try:
            model, path = self._current.catalogue.split_path(routing.below_upstream(request.rel_url.raw_path))
            row.model = model.name
            if model.config.url and routing.climbs(path):
                raise InvalidRequest("the path must not contain `..`")
            with quota.admit(request, row, model, endpoint, b"", Want()):
                await self._lease(request, row, model, path, key)
        except BaseException as error:  # whatever ends a request ends its row, a cancellation too
            self._ledger.close(row, *_end(row, error, self._flights.end(row)))
            raise
        self._flights.end(row)
        self._ledger.close(row, RequestState.OK, 101)
        ClientConnection(request).close()
        return Sent(101, keep_alive=False)

    async def _lease(self, request: Request, row: RequestRow, model: Model, path: str, key: str) -> None:
        # It takes a place for as long as it lasts, of its model and of its key.
        async with self._pool.lease(model.name, priority=quota.priority(request)) as lease:
            row.queue_ms, row.load_ms = lease.queue_seconds * 1000, lease.load_seconds * 1000
            row.backend = backend_name(lease)
            try:
                far, head, rest = await self._shaken(request, lease, path, key)
            except UpstreamStalled as stalled:
                lease.stalled(stalled.message)
                raise
            except UpstreamLost as lost:
                # A death is known before the lease ends, so that it is counted once.
                await lease.backend_gone(DEATH_NOTICE)
                lease.failed(str(lost))
                raise UpstreamError(f"{model.name}: {lost}") from lost
            lease.answered()
            self._ledger.first_byte(row)
            idle = self._current.config.engine.idle_timeout
            tunnel = Tunnel(request, far, idle, lambda: not lease.upstream.closed, row.sent)
            row.status = 101
            try:
                await tunnel.run(self._answer(request, head, model), rest)
            finally:
                row.bytes_in = tunnel.received

    async def _shaken(self, request: Request, lease: Lease, path: str, key: str) -> tuple[Far, Head, bytes]:
        """The backend's end of the tunnel, with its answer. Raises UpstreamLost, UpstreamStalled or UpstreamError."""
        patience = self._current.config.engine.first_byte_timeout
        query = request.rel_url.raw_query_string
        fields = headers.to_engine(request.raw_headers) + headers.lines(
            _UPGRADE | {"X-Request-Id": request_id(request)}
        )
        far: Far | None = None
        try:
            async with asyncio.timeout(patience):
                far = await reach(lease.upstream, f"{path}?{query}" if query else path, fields)
                head, rest = await far.head
            websocket.check_answer(head, key)
        except BaseException as error:  # nobody else knows of the connection yet
            if far:
                far.abort()
            if isinstance(error, TimeoutError):
                raise UpstreamStalled(f"the engine sent nothing for {patience:.0f} s") from error
            if isinstance(error, BadResponse):
                raise UpstreamError(f"the engine takes no WebSocket here: {error}") from error
            raise
        return far, head, rest

    def _answer(self, request: Request, head: Head, model: Model) -> bytes:
        own = _UPGRADE | stamp(request, self._current.guard) | {"x-llamaproxy-model": model.name}
        theirs = b"".join(b"%b: %b\r\n" % field for field in headers.to_client(head.fields))
        return _SWITCHING + theirs + headers.lines(own) + b"\r\n"


def _end(row: RequestRow, error: BaseException, cancelled: bool) -> tuple[RequestState, int | None, str | None]:
    """State, status and code.

    A client that leaves ends a WebSocket that has begun as it should end; an operator cuts it off.
    """
    if cancelled and isinstance(error, asyncio.CancelledError):
        return RequestState.REJECTED, row.status or RequestCancelled.status, RequestCancelled.code
    if isinstance(error, asyncio.CancelledError | ClientGone):
        return (RequestState.OK, 101, None) if row.status else (RequestState.CLIENT_ABORT, None, None)
    if isinstance(error, GatewayError):
        ours = not isinstance(error, UpstreamError | GatewayTimeout)
        return (RequestState.REJECTED if ours else RequestState.UPSTREAM_ERROR), error.status, error.code
    return RequestState.UPSTREAM_ERROR, 500, GatewayError.code
