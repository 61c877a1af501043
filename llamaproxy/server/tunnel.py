"""Bytes between a client and a backend that have changed to a protocol of their own, both ways.

Owns the backend's connection, backpressure and the deadline of silence. Looks at nothing but the backend's answer to
the request for the change. What it needs of aiohttp is `set_parser`, by which its own WebSockets get their bytes.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from llamaproxy.backends.lost import UpstreamLost
from llamaproxy.backends.upstream import Upstream
from llamaproxy.core.response import BadResponse, Head, HeadReader
from llamaproxy.server.incoming import Request
from llamaproxy.server.passthrough import HIGH_WATER, ClientConnection, ClientGone
from llamaproxy.tasks import spawn

_LOOK_EVERY = 1.0
"""Seconds between two looks at whether anybody still speaks, and the backend may."""


class Far(asyncio.Protocol):
    """The backend's end: first a head, then anything."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.head: asyncio.Future[tuple[Head, bytes]] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.sink: Callable[[bytes], None] | None = None
        self.on_full: Callable[[bool], None] = lambda full: None
        self._heads = HeadReader(switching=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        if self.sink:
            self.sink(data)
        else:
            self._take_head(data)

    def pause_writing(self) -> None:
        self.on_full(True)

    def resume_writing(self) -> None:
        self.on_full(False)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(UpstreamLost("the backend closed the connection"))
        if not self.lost.done():
            self.lost.set_result(None)

    def abort(self) -> None:
        if self.transport:
            self.transport.abort()

    def _take_head(self, data: bytes) -> None:
        """What follows the head stays with it: nobody reads on until somebody takes that."""
        assert self.transport
        try:
            found = self._heads.take(data)
        except BadResponse as error:
            return self._refuse(str(error))
        if found:
            self.transport.pause_reading()
            if not self.head.done():
                self.head.set_result(found)

    def _refuse(self, reason: str) -> None:
        self._fail(UpstreamLost(reason))
        self.abort()

    def _fail(self, error: Exception) -> None:
        if not self.head.done():
            self.head.set_exception(error)
            self.head.exception()  # whoever waited may have been cancelled


async def reach(upstream: Upstream, target: str, fields: bytes) -> Far:
    """Ask a backend, by GET, to change the protocol; its answer is in `head`. Raises UpstreamLost."""
    head = upstream.head("GET", target, fields)
    far = await upstream.reach(Far)
    assert far.transport
    far.transport.write(head)
    return far


class Tunnel:
    """Between one client and one backend. The calls of two event-loop protocols meet here: none may wait."""

    def __init__(
        self, request: Request, far: Far, idle: float, may_go_on: Callable[[], bool], on_sent: Callable[[int], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._request = request
        self._client = ClientConnection(request)
        self._far = far
        self._idle = idle
        self._may_go_on = may_go_on
        self._on_sent = on_sent
        self._heard_at = self._loop.time()
        self._draining: asyncio.Task[None] | None = None
        self.received = 0

    async def run(self, head: bytes, rest: bytes) -> None:
        """Until the backend closes, both fall silent, or the client leaves, which cancels this."""
        far = self._far
        assert far.transport
        far.sink, far.on_full = self._to_client, self._hold_client
        self._look()
        try:
            self._client.write(head)
            self._to_client(rest)
            self._request.hand_over(self)
            if self._draining is None:
                far.transport.resume_reading()
            await far.lost
        finally:
            self._watch.cancel()
            if self._draining:
                self._draining.cancel()
            far.abort()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """What the client says, from aiohttp's protocol."""
        self._heard_at = self._loop.time()
        self.received += len(data)
        if self._far.transport and not self._far.transport.is_closing():
            self._far.transport.write(data)
        return False, b""

    def feed_eof(self) -> None:
        """The client has left."""
        self._far.abort()

    def _to_client(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        if not data:
            return
        try:
            self._client.write(data)
        except ClientGone:
            self._far.abort()
            return
        self._on_sent(len(data))
        if self._client.congested and self._draining is None and self._far.transport:
            self._far.transport.pause_reading()
            self._draining = spawn(self._drain(), name="drain-tunnel")

    async def _drain(self) -> None:
        try:
            await self._client.drain(self._idle)
        except ClientGone:
            self._far.abort()
            return
        self._draining = None
        self._heard_at = self._loop.time()
        if self._far.transport and not self._far.transport.is_closing():
            self._far.transport.resume_reading()

    def _hold_client(self, full: bool) -> None:
        if (transport := self._request.transport) and not transport.is_closing():
            (transport.pause_reading if full else transport.resume_reading)()

    def _look(self) -> None:
        """Whether anybody has spoken in time, and the backend may still be spoken to."""
        again = min(_LOOK_EVERY, self._idle / 4)
        self._watch = self._loop.call_later(again, self._look)
        if self._loop.time() - self._heard_at >= self._idle or not self._may_go_on():
            self._far.abort()
