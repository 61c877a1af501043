"""Forwarding an answer by nothing but what aiohttp documents, for a release whose inside is not known here, and for
answers that are told in another way.

The same as `relay`, at several times its cost: content is taken out of the engine's framing, and aiohttp
frames it anew.
"""

import asyncio
from collections.abc import Callable

from aiohttp import HttpVersion11, web
from multidict import CIMultiDict

from llamaproxy.backends.upstream import Answer
from llamaproxy.core import headers
from llamaproxy.core.response import Framing, Head
from llamaproxy.core.stripping import Unasked
from llamaproxy.server.outlet import Outlet, outlet
from llamaproxy.server.passthrough import HIGH_WATER, ClientGone, written

Observe = Callable[[bytes], None]


class PublicRelay:
    """One answer on its way, its content through `outlet`. The client may have the head of the response already."""

    def __init__(
        self,
        request: web.Request,
        answer: Answer,
        response: web.StreamResponse,
        outlet: Outlet,
        idle: float,
        on_sent: Callable[[int], None],
    ) -> None:
        self.response = response
        self._request = request
        self._answer = answer
        self._outlet = outlet
        self._idle = idle
        self._on_sent = on_sent
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting = 0

    async def run(self, observe: Observe | None) -> None:
        """Returns at the proper end. Raises ConnectionLost or BadResponse where it broke off, or ClientGone."""
        try:
            await self._pass(observe)
        except ConnectionError as error:
            raise ClientGone from error

    async def _pass(self, observe: Observe | None) -> None:
        if not self.response.prepared:
            await self.response.prepare(self._request)
        relaying = self._answer.relay(None, self._taking(observe))
        relaying.add_done_callback(lambda _: self._pieces.put_nowait(None))
        try:
            while (piece := await self._pieces.get()) is not None:
                await self._send(self._outlet.through(piece))
                self._waiting -= len(piece)
                if self._waiting <= HIGH_WATER:
                    self._answer.resume()
            relaying.result()
            await self._send(self._outlet.end())
            await self.response.write_eof()
        finally:
            relaying.cancel()

    async def insert(self, event: bytes) -> None:
        """Say why it broke off."""
        await self._send(self._outlet.insert(event))

    def _taking(self, observe: Observe | None) -> Observe:
        def take(content: bytes) -> None:
            if observe:
                observe(content)
            self._waiting += len(content)
            self._pieces.put_nowait(content)
            if self._waiting > HIGH_WATER:
                self._answer.pause()

        return take

    async def _send(self, content: bytes) -> None:
        if content:
            self._on_sent(len(content))
            await written(self.response, content, self._request, self._idle)


def as_it_is(
    request: web.Request,
    answer: Answer,
    own: bytes,
    begun: web.StreamResponse | None,
    strip: Unasked | None,
    idle: float,
    on_sent: Callable[[int], None],
) -> PublicRelay:
    """The relay of an answer whose content stays. `begun` is a response of which the client has the head."""
    strip = strip if answer.head.framing is not Framing.LENGTH else None
    content = outlet(Framing.CLOSE, to_chunks=False, to_close=False, unasked=strip)
    return PublicRelay(request, answer, begun or _response(request, answer.head, own), content, idle, on_sent)


def as_fields(lines: bytes) -> CIMultiDict[str]:
    """Header fields that were spelled as lines."""
    fields = CIMultiDict[str]()
    for line in lines.decode().splitlines():
        name, _, value = line.partition(": ")
        fields.add(name, value)
    return fields


def _response(request: web.Request, head: Head, own: bytes) -> web.StreamResponse:
    fields = CIMultiDict[str]()
    for name, value in headers.to_client(head.fields):
        fields.add(name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
    fields.extend(as_fields(own))
    response = web.StreamResponse(status=head.status, reason=head.reason.decode("latin-1"), headers=fields)
    if head.framing in (Framing.CHUNKED, Framing.CLOSE) and request.version >= HttpVersion11:
        response.enable_chunked_encoding()
    return response
