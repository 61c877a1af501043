"""Connections of clients: what of HTTP is refused before anybody asks what it means, and when they end.

Owns all that the gateway needs of aiohttp's server beyond what is documented, but for what stands in `passthrough` and
`lane`: its protocol class, whose private `_messages` (requests that were read and not begun) and `_waiter` (pending
while it waits for one) tell a request that is on its way from silence. `tests/server/test_inbound.py` fails where a
release changes them. Must not know routes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from llamaproxy.core import request_head
from llamaproxy.core.routing import Dialect
from llamaproxy.errors import GatewayError, InvalidRequest, RequestTimeout, UnsupportedMediaType
from llamaproxy.server.answers import closing_answer
from llamaproxy.server.backlog import Backlog
from llamaproxy.server.incoming import Request, to_origin_form, without
from llamaproxy.server.lane import Handler, Lanes
from llamaproxy.server.parting import Refusal, refused
from llamaproxy.server.passthrough import known
from llamaproxy.server.stamp import fresh_id

log = logging.getLogger(__name__)

_KNOWN = known()
KEEP_ALIVE = 75.0
"""Seconds an idle connection is kept. Reverse proxies keep theirs for 60 s or less (nginx: 60 s): who is in front must
be the first to close, or a request meets the close."""
_LOOK_EVERY = 1.0
"""Seconds between two looks at the deadlines of heads. One look for all is cheaper than a timer for each request."""
LINGER, LINGER_BYTES = 2.0, 16 * 1024**2
"""How long, in seconds, and of how much a client that is still sending is listened to after its refusal: what it has
not been able to send before a close may cost it the answer (RFC 9112, section 9.6)."""
_MOST_FRAMING = 1024**2
"""Bytes of chunk sizes, extensions and trailers that a body may have beyond one for each byte of content."""
_LONGEST_HEAD = 32 * 1024
"""Bytes of a head that is not complete, kept to say what is wrong with it."""
_BAD_FRAMING = "the framing of the body is broken"


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_backlog", "_framing", "_handed_over", "_head", "_head_since", "_left", "_parted", "_request")

    def __init__(self, inbound: "Inbound", loop: asyncio.AbstractEventLoop, **settings: Any) -> None:
        super().__init__(inbound, loop=loop, **settings)
        self._request: Request | None = None
        self._framing = 0
        self._head = b""
        self._head_since: float | None = loop.time()
        self._handed_over = False
        self._left = 0
        self._parted: asyncio.Future[None] | None = None
        self._backlog: Backlog | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._backlog = Backlog(cast(asyncio.WriteTransport, transport))

    def begin(self, request: Request, malformed: bool) -> None:
        """This request is the one that is being served."""
        self._request = request
        self._head_since = None
        self._framing = 0
        request.long = not 0 < len(self._head) <= request_head.LONGEST_FIELD
        if not malformed:
            self._head = b""

    def hand_over(self, receiver: Any) -> None:
        """The connection is no HTTP any more."""
        self.set_parser(receiver)

    def set_parser(self, parser: Any, data_received_cb: Callable[[], None] | None = None) -> None:
        """aiohttp's own WebSockets come this way, too."""
        self._handed_over = True
        self._head = b""
        super().set_parser(parser, data_received_cb)

    def data_received(self, data: bytes) -> None:
        if not data:
            # aiohttp's own way to have what came before looked at.
            super().data_received(data)
            return
        if self._parted:
            self._discard(data)
            return
        if self._handed_over:
            super().data_received(data)
            return
        request = self._request
        receiving = request is not None and not request.complete
        super().data_received(data)
        if request is not None and receiving:
            self._follow(request.unread, data)
        else:
            self._listen(data)

    def _listen(self, data: bytes) -> None:
        """To what should be a head. An empty line is no beginning of one: old clients end their bodies with it."""
        if self._head_since is None and not self._messages and data not in (b"", b"\r\n"):
            self._head_since = self._loop.time()
        self._head = (self._head + data)[:_LONGEST_HEAD] if self._head else data

    def eof_received(self) -> None:
        self._part()

    def _follow(self, body: StreamReader, data: bytes) -> None:
        """Whether its framing is in order; the parser tells nobody who waits for the body."""
        self._framing += len(data)
        if body.is_eof():
            return
        if self._messages or self._framing > 2 * body.total_bytes + _MOST_FRAMING:
            body.set_exception(web.RequestPayloadError(_BAD_FRAMING))

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to what could not be read, with its head or, by the parser in Python, in the midst of its body."""
        if request.writer.output_size:
            raise ConnectionError("the answer has begun, and can only be cut off") from exc
        if self._request and not self._request.complete and isinstance(exc, HttpProcessingError):
            error: GatewayError = InvalidRequest(_BAD_FRAMING)
        elif isinstance(exc, ContentEncodingError):
            error = UnsupportedMediaType("a body with this content coding cannot be read here; gzip and deflate can")
        elif status >= 500:
            log.error("a request failed outside of its handler", exc_info=exc)
            error = GatewayError("the gateway failed; its log says why")
        else:
            error = request_head.explain(self._head)
            log.debug("malformed HTTP from %s: %.200r", request.remote, str(exc))
        return Refusal(self, error)

    def look(self, now: float, patience: float, still: float) -> None:
        """Ends the connection where a head has not become complete for `patience` seconds, or nothing of what waits
        for its client was taken for `still` seconds."""
        if self._backlog:
            self._backlog.look(now, still)
        if self._head_since is None or now - self._head_since < patience or not self._waits():
            return
        if transport := self.transport:
            error = RequestTimeout(f"the request's head did not arrive within {patience:g} s")
            transport.write(closing_answer(error, fresh_id(), Dialect.OPENAI))
            self.force_close()

    def _waits(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    async def part(self, last: bytes = b"") -> None:
        """Say the last word, and drop what the client still sends, until it leaves or has had its time."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        transport.write(last)
        if transport.can_write_eof():
            transport.write_eof()
        self._left = LINGER_BYTES
        self._parted = self._loop.create_future()
        transport.resume_reading()
        try:
            async with asyncio.timeout(LINGER):
                await self._parted
        except TimeoutError:
            log.debug("a refused client went on sending")

    def _discard(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._part()

    def _part(self) -> None:
        if self._parted and not self._parted.done():
            self._parted.set_result(None)


class Inbound(web.Server):
    """The server of all connections. `patience` tells in how many seconds a head must be complete, `still` for how many
    nothing may be taken of what waits for a client, `prefix` what a path may begin with that belongs to a proxy in
    front."""

    def __init__(
        self,
        handler: Handler,
        patience: Callable[[], float],
        prefix: Callable[[], str] = lambda: "",
        still: Callable[[], float] = lambda: KEEP_ALIVE,
    ) -> None:
        super().__init__(cast(Any, self._handle), request_factory=self._request, handler_cancellation=True)
        self._loop = asyncio.get_running_loop()
        self._handler = handler
        self._patience = patience
        self._prefix = prefix
        self._still = still
        self._looking: asyncio.TimerHandle | None = None
        self._lanes = Lanes(self._enter, self._connection)

    def __call__(self) -> Any:
        """The protocol of a new connection."""
        if self._looking is None:
            self._look_later()
        return self._lanes() if _KNOWN else self._connection()

    def _connection(self) -> Connection:
        return Connection(
            self,
            self._loop,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE,
            lingering_time=0,
            max_headers=request_head.MOST_FIELDS,
            max_field_size=request_head.LONGEST_FIELD,
            max_line_size=request_head.LONGEST_TARGET,
        )

    def pre_shutdown(self) -> None:
        self._lanes.close()
        super().pre_shutdown()

    async def shutdown(self, timeout: float | None = None) -> None:
        await asyncio.gather(self._lanes.shutdown(timeout), super().shutdown(timeout))

    def _look_later(self) -> None:
        self._looking = self._loop.call_later(min(_LOOK_EVERY, self._patience() / 4), self._look)

    def _look(self) -> None:
        """At all of them, as long as there are any."""
        connections, now = cast(list[Connection], self.connections), self._loop.time()
        patience, still = self._patience(), self._still()
        self._looking = None
        if connections or self._lanes:
            self._look_later()
        for connection in connections:
            connection.look(now, patience, still)
        self._lanes.look(now, KEEP_ALIVE, still)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> Request:
        request = Request(message, payload, protocol, writer, task, self._loop)
        cast(Connection, protocol).begin(request, malformed=message.method == "UNKNOWN")
        return request

    def _handle(self, request: Request) -> Awaitable[web.StreamResponse]:
        """No coroutine of its own: there is one for each request already. What it refuses is never plain."""
        headers = request.headers
        if fault := request_head.check(request.method, request.raw_path, request.version, headers):
            return refused(request, fault)
        if request.long and (fault := request_head.check_lengths(request.raw_headers)):
            return refused(request, fault)
        if hdrs.EXPECT in headers and request.version == HttpVersion11:
            request.waits = True
        if request.raw_path[0] not in "/*":
            request = to_origin_form(request)
        return self._enter(request)

    def _enter(self, request: Request) -> Awaitable[web.StreamResponse]:
        """With what is well-formed; plain requests come here at once."""
        if (prefix := self._prefix()) and request.raw_path.startswith(prefix):
            if request.rel_url.raw_path == prefix:
                return _moved(f"{prefix}/")
            request = without(prefix, request)
        return self._handler(request)


async def _moved(path: str) -> web.StreamResponse:
    """What a page names is looked for beside it: it must know that the prefix is a folder."""
    return web.Response(status=308, headers={"Location": path})
