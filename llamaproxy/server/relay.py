"""One answer on its way from an engine to a client, as it comes.

Owns backpressure in both directions, and what the client is sent in place of what the engine sent. How an exchange
begins, and what becomes of one that breaks off, is `splice`'s business.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from aiohttp import HttpVersion11, web

from llamaproxy.backends.lost import ConnectionLost
from llamaproxy.backends.upstream import Answer
from llamaproxy.core import headers
from llamaproxy.core.response import CHUNKED, CLOSE, BadResponse, Head
from llamaproxy.core.stripping import Unasked
from llamaproxy.core.usage import StreamMeter
from llamaproxy.server.express import Express
from llamaproxy.server.outlet import AsIs, Outlet, Stripped, outlet
from llamaproxy.server.passthrough import ClientConnection, ClientGone, sent
from llamaproxy.tasks import spawn

Observe = Callable[[bytes], None]


class Witness(Protocol):
    """Who is told of an answer on its way."""

    sent: Callable[[int], None]
    """So many bytes of the body were given to the client's connection, with their framing."""

    alone: StreamMeter | None
    """Who wants to see the content of a stream that began, where nobody but the meter does."""

    def began(self, head: Head) -> Observe | None:
        """The engine has answered; returns who wants to see the content."""


class Relay:
    """One answer on its way. `response` is what the server is told was sent.

    `sent`, `hold_back` and `leave` are there for the short way (`express`).
    """

    def __init__(
        self,
        request: web.Request,
        answer: Answer,
        own: bytes,
        begun: web.StreamResponse | None,
        strip: Unasked | None,
        idle: float,
        witness: Witness,
    ) -> None:
        newest = request.version >= HttpVersion11
        framing = answer.head.framing
        to_chunks = newest and begun is not None
        goes_on = newest and bool(request.keep_alive) and (to_chunks or framing is not CLOSE)
        self.response = sent(answer.status, goes_on)
        self.sent = witness.sent
        self._answer = answer
        self._client = ClientConnection(request)
        self._chunked = newest and framing is CHUNKED
        self._outlet: Outlet = outlet(framing, to_chunks, not newest, strip)
        self._through = self._outlet.through
        self._alone = witness.alone
        self._observe: Observe | None = None
        self._pending = b"" if begun is not None else headers.answer_head(answer.head, own, self._chunked, goes_on)
        self._idle = idle
        self._draining: asyncio.Task[None] | None = None
        self._gone = False

    async def run(self, observe: Observe | None) -> None:
        """Returns at the proper end. Raises ConnectionLost or BadResponse where it broke off, or ClientGone."""
        try:
            if isinstance(self._outlet, AsIs):
                await self._answer.relay(self._take, observe)
            else:
                self._observe = observe
                end = self._answer.relay(None, self._take)
                self._shorten()
                await end
            if self._draining:
                await self._draining
        except (ConnectionLost, BadResponse) as error:
            if self._gone:
                raise ClientGone from error
            raise
        finally:
            self._observe = None
            if self._draining:
                self._draining.cancel()
                self._answer.resume()
        if self._gone:
            raise ClientGone
        if last := self._pending + self._outlet.end():
            self._client.write(last)
        if self._client.congested:
            await self._client.drain(self._idle)

    def _shorten(self) -> None:
        """The way of ordinary chunks, where nobody but the meter sees the content. It knows us from then on."""
        meter, client = self._alone, self._client.transport
        self._alone = None
        stripper = self._outlet.timings if isinstance(self._outlet, Stripped) else None
        if meter and stripper and client:
            self._answer.divert(lambda connection: Express(connection, meter, stripper, client, self))

    async def insert(self, event: bytes) -> None:
        """Say why it broke off, where there is a place for it."""
        place = self._outlet.insert(event) or (self._answer.insert(event) if self._chunked else b"")
        if place:
            self.sent(len(place))
            self._client.write(self._pending + place)

    def _take(self, data: bytes) -> None:
        if self._observe:
            self._observe(data)
        if self._gone:
            return
        pending, self._pending = self._pending, b""
        self._send(self._through(data), pending)

    def _send(self, piece: bytes, before: bytes = b"") -> None:
        try:
            congested = self._client.write(before + piece if before else piece)
        except ClientGone:
            return self.leave()
        self.sent(len(piece))
        if congested:
            self.hold_back()

    def hold_back(self) -> None:
        if self._draining is None:
            self._answer.pause()
            self._draining = spawn(self._drain(), name="drain-client")

    async def _drain(self) -> None:
        try:
            await self._client.drain(self._idle)
        except ClientGone:
            self.leave()
        else:
            self._draining = None
            self._answer.resume()

    def leave(self) -> None:
        self._gone = True
        self._answer.abort()
