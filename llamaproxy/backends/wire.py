"""HTTP/1.1 on one connection to an engine: a request goes out in one piece, bytes of the response come as they are.

Owns the connection and the order of what happens on it. The bytes of a body are handed on untouched, chunked framing
included, unless somebody makes something else of them; where the body ends is `core.framing`'s word. Must not know what
a request is for.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from llamaproxy.backends.lost import ConnectionLost, ConnectionSilent
from llamaproxy.backends.silence import FOR_EVER, Silence
from llamaproxy.core.framing import Body, body_of
from llamaproxy.core.response import LENGTH, BadResponse, Head, HeadReader

_MOST_EARLY = 256 * 1024
"""Bytes of a body that are taken in before anybody relays it."""

Sink = Callable[[bytes], None]


class Diversion(Protocol):
    """A protocol (asyncio's) that hears the transport in front of its connection, and passes on what it does not take:
    `data_received` all pieces of the body but whole chunks, everything else always.

    `heard_at`: when it took something last, in seconds of the event loop's clock.
    """

    heard_at: float

    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...


class Connection(asyncio.Protocol):
    """One exchange at a time: `ask`, then maybe `begin`, then `relay`.

    `exchanges` counts those that were begun. `reusable` says that another may begin. `idle_since`: seconds of the event
    loop's clock.
    """

    def __init__(self, on_lost: Callable[["Connection"], None] = lambda connection: None) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._head: asyncio.Future[Head] | None = None
        self._first: asyncio.Future[None] | None = None
        self._end: asyncio.Future[None] | None = None
        self._parsed: Head | None = None
        self._body: Body | None = None
        self._sink: Sink | None = None
        self._diversion: Diversion | None = None
        self._heads = HeadReader()
        self._buffer = b""
        self._garbled = self._aborted = False
        self._silence = Silence(self._fall_silent, self._heard_on_diversion)
        self.exchanges = 0
        self.idle_since = self._loop.time()

    # What the exchange's owner does

    def ask(self, *request: bytes, to_head: bool = False, patience: float = FOR_EVER) -> asyncio.Future[Head]:
        """Send a whole request, in one piece or several; the head of the answer is to be waited for.

        The engine may be silent for `patience` seconds, from now to the end of the answer. Raises ConnectionLost, or
        BadResponse; the connection is closed then.
        """
        assert self._head is None, "one exchange at a time"
        if self._transport is None or self._transport.is_closing():
            raise ConnectionLost("it is closed", heard=False)
        self.exchanges += 1
        if self._silence.suspended:
            self.resume()
        self._silence.bear(patience)
        self._heads.expect(to_head)
        self._buffer = b""
        self._parsed = self._body = self._first = None
        self._head = head = self._loop.create_future()
        self._end = self._loop.create_future()
        for piece in request:
            self._transport.write(piece)
        return head

    @property
    def begun(self) -> bool:
        """Some of the body is here, and was not relayed yet."""
        return bool(self._buffer)

    async def begin(self) -> None:
        """Returns when the first byte of the body is here, or its end: an engine that dies before has answered nothing.

        Raises ConnectionLost or BadResponse.
        """
        assert self._end
        if self._buffer:
            return
        if self._end.done():
            return self._end.result()
        self._first = self._loop.create_future()
        await self._first

    def relay(self, sink: Sink | None, content: Sink | None = None) -> asyncio.Future[None]:
        """Hand on the body's bytes as they come, those that are here at once; its end is to be waited for.

        `content` is told what they hold, without framing, before `sink` gets them. Raises ConnectionLost or BadResponse
        where it breaks off.
        """
        assert self._end
        early, self._buffer = self._buffer, b""
        if not self._end.done():
            self._sink = sink or _swallow
            if self._silence.suspended:
                self.resume()
        if content:
            self._listen(early, content)
        if early and sink:
            sink(early)
        return self._end

    def whole(self) -> bytes | None:
        """A body with a length that is here as a whole, and was not relayed; nothing is left of it then. Or None."""
        assert self._end and self._parsed
        if self._parsed.framing is not LENGTH or not self._end.done() or self._end.exception():
            return None
        body, self._buffer = self._buffer, b""
        return body

    def divert(self, by: Callable[["Connection"], Diversion]) -> None:
        """Let somebody stand in front, until what is being relayed has come to its end."""
        if self._sink and self._transport:
            self._diversion = by(self)
            self._transport.set_protocol(cast(asyncio.BaseProtocol, self._diversion))

    @property
    def between_chunks(self) -> bool:
        """The next byte begins a chunk of the body, or its end; False where it has none."""
        return self._body is not None and self._body.between_chunks

    def _listen(self, early: bytes, content: Sink) -> None:
        """The body is followed anew, with somebody to listen."""
        assert self._parsed
        body = body_of(self._parsed, content)
        body.feed(early)
        if self._body:
            self._body = body

    def insert(self, content: bytes) -> bytes:
        """What to send after what was relayed for `content` to be read next, where the body is chunked; or nothing."""
        return self._body.insert(content) if self._body and not self._garbled else b""

    def bear(self, patience: float) -> None:
        """From now on the engine may be silent for so many seconds, until the exchange ends."""
        self._silence.bear(patience)

    def pause(self) -> None:
        """Read nothing; an engine that nobody listens to is not silent."""
        self._silence.suspended = True
        if self._transport and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        self._silence.suspended = False
        self._silence.heard()
        if self._transport and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close it at once: an engine sees that its client has gone."""
        if self._transport:
            self._aborted = True
            self._transport.abort()

    @property
    def answering(self) -> bool:
        """The head of an answer is here, and not the end."""
        return self._body is not None

    @property
    def reusable(self) -> bool:
        """The exchange has ended where it should, and nothing speaks against another.

        An engine may answer before it has the whole request: the rest of it would be taken for the next one.
        """
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size():
            return False
        return self._head is None

    # What the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            if self._body is None:
                self._take_head(data)
            else:
                self._take_body(self._body, data)
        except BadResponse as error:
            self._garbled = True
            self._fail(error)
            self.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if self._body and error is None and not self._aborted:
            self._close_body(self._body)
        self._silence.close()
        self._diversion = None
        heard = bool(self._parsed or self._heads.begun)
        self._fail(ConnectionLost(str(error) if error else "the engine closed the connection", heard))
        self._on_lost(self)

    # What follows

    def _take_head(self, data: bytes) -> None:
        if self._head is None:
            raise BadResponse("it comes without a request")
        if found := self._heads.take(data):
            head, rest = found
            self._parsed = head
            if not self._head.done():
                self._head.set_result(head)
            self._begin_body(head, rest)

    def _begin_body(self, head: Head, data: bytes) -> None:
        if head.framing is LENGTH and head.length == len(data):
            self._buffer = data
            return self._finish()
        self._body = body = body_of(head)
        if data or body.ended:
            self._take_body(body, data)

    def _take_body(self, body: Body, data: bytes) -> None:
        if body.ended and data:
            raise BadResponse("it goes on after its end")
        body.feed(data)
        if self._sink:
            self._silence.heard_at = self._loop.time()
            self._sink(data)
        else:
            self._buffer += data
            if len(self._buffer) > _MOST_EARLY:
                self.pause()
        if self._first:
            self._tell_begun(self._first)
        if body.ended:
            self._finish()

    def _tell_begun(self, first: asyncio.Future[None]) -> None:
        _settle(first)
        self._first = None

    def _finish(self) -> None:
        """What was not relayed yet stays in the buffer for whoever does."""
        assert self._end and self._parsed and self._transport
        if self._first:
            self._tell_begun(self._first)
        _settle(self._end)
        self.idle_since = self._loop.time()
        self._silence.end()
        if self._parsed.persistent:
            self._head = None
        else:
            self.abort()
        self._body = self._sink = None
        if self._diversion:
            self._transport.set_protocol(self)
            self._diversion = None

    def _heard_on_diversion(self) -> float:
        return self._diversion.heard_at if self._diversion else 0.0

    def _fall_silent(self) -> None:
        self._fail(ConnectionSilent("nothing came in time", heard=True))
        self.abort()

    def _close_body(self, body: Body) -> None:
        try:
            body.close()
        except BadResponse as error:
            self._fail(error)
        else:
            self._finish()

    def _fail(self, error: Exception) -> None:
        """Whoever waits is told, for the head or for the body."""
        for future in (self._head, self._first, self._end):
            if future and not future.done():
                future.set_exception(error)
                # Nobody may ask any more: whoever waited has been cancelled.
                future.exception()


def _swallow(data: bytes) -> None:
    """Nobody but who listens to the content wants it."""


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
