"""The short way of plain requests from a client's connection to the handler.

Owns connections for as long as nothing but plain requests comes on them, each whole and after the answer to the one
before. The first bytes that are anything else go, with their connection and for good, to its successor, which reads
all of HTTP and judges it. What is plain says `core.plain`. Must not know routes, nor refuse anything.

Requests are aiohttp's own, made of what its parser would have made, so that handlers and responses need not know. The
parts they are made of are not all documented: `passthrough.known` says with which releases there is a short way.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import cast

from aiohttp import HttpVersion11, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.tcp_helpers import tcp_keepalive
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from llamaproxy import scope
from llamaproxy.core import plain
from llamaproxy.core.routing import dialect_of
from llamaproxy.errors import GatewayError
from llamaproxy.server.answers import closing_answer
from llamaproxy.server.backlog import Backlog
from llamaproxy.server.incoming import Request
from llamaproxy.server.passthrough import STARTED, Sent
from llamaproxy.server.stamp import request_id

log = logging.getLogger(__name__)

_LATE = 0.1
"""Seconds in which a request must have come whole. One that takes longer is in no hurry, and has deadlines to meet."""
_MOST_HELD = 64 * 1024
"""Bytes that a client may send ahead while its request is served."""

Handler = Callable[[Request], Awaitable[web.StreamResponse]]


class Lane(BaseProtocol):
    """One client's connection."""

    def __init__(self, lanes: "Lanes", loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._lanes = lanes
        self._held: list[bytes] = []
        self._size = 0
        self._wanted = 0
        self._backlog: Backlog | None = None
        self._serving: asyncio.Task[None] | None = None
        self._closing = False
        self._expecting = True
        self._since = loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        tcp_keepalive(cast(asyncio.Transport, transport))
        self._backlog = Backlog(cast(asyncio.WriteTransport, transport))
        # What a request asks of its protocol.
        self.peername = transport.get_extra_info("peername")
        self.sockname = transport.get_extra_info("sockname")
        self.ssl_context = transport.get_extra_info("sslcontext")
        self._lanes.join(self)
        self._lanes.expect(self)

    def connection_lost(self, error: BaseException | None) -> None:
        super().connection_lost(error)
        if self._serving:
            self._serving.cancel()
            # One that is cancelled before its first step comes by no `_end`.
            self._serving.add_done_callback(self._left)
        else:
            self._lanes.leave(self)

    def _left(self, serving: asyncio.Task[None]) -> None:
        self._serving = None
        self._lanes.leave(self)

    def data_received(self, data: bytes) -> None:
        self._held.append(data)
        self._size += len(data)
        if self._serving is None:
            if self._size >= self._wanted:
                self._take()
        elif self._size > _MOST_HELD and self.transport:
            self.transport.pause_reading()

    def is_late(self, now: float) -> bool | None:
        """Whether it must be handed over; None where nothing is expected of it."""
        return now - self._since >= _LATE if self._expecting else None

    def is_idle(self) -> bool:
        """Whether no request is served."""
        return self._serving is None

    def look(self, now: float, silence: float, patience: float) -> None:
        """Ends the connection where nothing has come for so many seconds, or nothing of what waits was taken."""
        if self.transport and self.is_idle() and now - self._since >= silence:
            self.transport.close()
        if self._backlog:
            self._backlog.look(now, patience)

    def hand_over(self) -> None:
        """Its successor gets the connection, and what came and was not served."""
        transport, self.transport = self.transport, None
        self._expecting = False
        self._lanes.leave(self)
        if transport is None or transport.is_closing():
            return
        successor = self._lanes.successor()
        successor.connection_made(transport)
        if self._paused:
            successor.pause_writing()
        transport.set_protocol(successor)
        if self._held:
            successor.data_received(b"".join(self._held))

    def close(self) -> None:
        """Once its request is answered."""
        self._closing = True
        if self.is_idle() and self.transport:
            self.transport.close()

    async def shutdown(self, timeout: float | None) -> None:
        """Its request has so many seconds to end, and as many again to end once it is cancelled."""
        self._closing = True
        if (serving := self._serving) and not (await asyncio.wait({serving}, timeout=timeout))[0]:
            serving.cancel()
            await asyncio.wait({serving}, timeout=timeout)
        if self.transport:
            self.transport.close()

    def _take(self) -> None:
        """What has come, if it is a request and nothing more."""
        data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        frame = plain.frame(data)
        if frame is None:
            return self.hand_over()
        head, body, length = frame
        message, missing = _message(head), length - len(body)
        if message is None or missing < 0:
            self.hand_over()
        elif missing:
            self._wait(len(data) + missing)
        else:
            self._begin(message, body)

    def _wait(self, wanted: int) -> None:
        self._wanted = wanted
        self._expecting = True
        self._since = self._loop.time()
        self._lanes.expect(self)

    def _begin(self, message: RawRequestMessage, body: bytes) -> None:
        self._held.clear()
        self._size = self._wanted = 0
        self._expecting = False
        request = Request(message, EMPTY_PAYLOAD, self, StreamWriter(self, self._loop), None, self._loop)
        request.whole = body
        # `spawn` would keep it, and tell what fails: the lane does the one, and `_serve` the other.
        self._serving = asyncio.Task(self._serve(request), loop=self._loop, name="request")

    async def _serve(self, request: Request) -> None:
        goes_on = False
        try:
            response = await self._lanes.handler(request)
            if not isinstance(response, Sent):
                await response.prepare(request)
                await response.write_eof()
            goes_on = bool(response.keep_alive)
        except ConnectionError:
            log.debug("a client left before it had its answer")
        except Exception:  # nobody waits for this task: unheard, its client would get neither an answer nor an end
            log.exception("a request failed outside of its handler")
            self._fail(request)
        finally:
            self._end(goes_on)

    def _fail(self, request: Request) -> None:
        if self.transport and not request.writer.output_size and STARTED not in request:
            error = GatewayError("the gateway failed; its log says why")
            self.transport.write(closing_answer(error, request_id(request), dialect_of(request.path)))

    def _end(self, goes_on: bool) -> None:
        self._serving = None
        self._since = self._loop.time()
        transport = self.transport
        if transport is None:
            self._lanes.leave(self)
        elif self._closing or not goes_on or transport.is_closing():
            transport.close()
        elif self._held:
            transport.resume_reading()
            # What comes next is none of this request's.
            self._loop.call_soon(self._go_on, context=scope.of_nobody())

    def _go_on(self) -> None:
        """Nobody asks who has left already: its end may be known before this turn comes."""
        if self._held and self.is_idle() and not self._closing and self.transport and not self.transport.is_closing():
            self._take()


class Lanes:
    """All connections that are on the short way. `successor` makes the protocol of those that leave it."""

    def __init__(self, handler: Handler, successor: Callable[[], asyncio.Protocol]) -> None:
        self.handler = handler
        self.successor = successor
        self._loop = asyncio.get_running_loop()
        self._all: set[Lane] = set()
        self._expected: set[Lane] = set()
        self._looking: asyncio.TimerHandle | None = None

    def __call__(self) -> Lane:
        """A protocol for one more."""
        return Lane(self, self._loop)

    def __len__(self) -> int:
        return len(self._all)

    def join(self, lane: Lane) -> None:
        self._all.add(lane)

    def leave(self, lane: Lane) -> None:
        self._all.discard(lane)

    def expect(self, lane: Lane) -> None:
        """A request should come whole on it, and soon. One look for all is cheaper than a timer for each."""
        self._expected.add(lane)
        if self._looking is None:
            self._looking = self._loop.call_later(_LATE, self._look_for_late)

    def _look_for_late(self) -> None:
        now = self._loop.time()
        late = {lane: lane.is_late(now) for lane in self._expected}
        self._expected = {lane for lane, so in late.items() if so is False}
        self._looking = self._loop.call_later(_LATE, self._look_for_late) if self._expected else None
        for lane in (lane for lane, so in late.items() if so):
            lane.hand_over()

    def look(self, now: float, silence: float, patience: float) -> None:
        """At each of them."""
        for lane in tuple(self._all):
            lane.look(now, silence, patience)

    def close(self) -> None:
        """As each has answered its request."""
        for lane in tuple(self._all):
            lane.close()

    async def shutdown(self, timeout: float | None) -> None:
        await asyncio.gather(*(lane.shutdown(timeout) for lane in tuple(self._all)))


@lru_cache(maxsize=256)
def _message(head: bytes) -> RawRequestMessage | None:
    """What aiohttp would make of a plain head; None of others. Clients repeat themselves."""
    found = plain.read(head)
    if found is None:
        return None
    target, raw = found
    fields = CIMultiDictProxy(CIMultiDict([(name.decode(), value.decode()) for name, value in raw]))
    return RawRequestMessage(
        "POST",
        target,
        HttpVersion11,
        headers=fields,
        raw_headers=raw,
        should_close=False,
        compression=None,
        upgrade=False,
        chunked=False,
        url=URL(target),
    )
