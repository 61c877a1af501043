"""Forwarding one exchange: the engine's response to the client, as it comes.

The seam of the data plane: `forward` is all the rest of the gateway knows of it. Owns deadlines while bytes flow,
backpressure in both directions and the honest end of what breaks off.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import HttpVersion11, web

from llamaproxy.backends.upstream import Answer, Upstream, UpstreamLost, UpstreamSilent
from llamaproxy.backends.wire import ConnectionLost, ConnectionSilent
from llamaproxy.core import headers
from llamaproxy.core.response import CHUNKED, CLOSE, BadResponse, Head
from llamaproxy.core.routing import Dialect
from llamaproxy.core.stripping import Unasked
from llamaproxy.errors import GatewayError, UpstreamError, UpstreamStalled
from llamaproxy.server import fallback, flights, retold
from llamaproxy.server.answers import error_event
from llamaproxy.server.fallback import PublicRelay
from llamaproxy.server.outgoing import Outgoing
from llamaproxy.server.outlet import AsIs, Outlet, outlet
from llamaproxy.server.passthrough import ClientConnection, ClientGone, Sent, known, written
from llamaproxy.tasks import spawn

_STREAM = b"text/event-stream"
_LONGEST_ECHO = 4096
_NOTHING = b":\n\n"
"""A comment, to have everything sent that was written before."""

_KNOWN = known()

Observe = Callable[[bytes], None]


class Witness(Protocol):
    """Who is told of an answer on its way."""

    sent: Callable[[int], None]
    """So many bytes of the body were given to the client's connection, with their framing."""

    def began(self, head: Head) -> Observe | None:
        """The engine has answered; returns who wants to see the content."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds to the first byte, and between bytes."""

    first_byte: float
    idle: float


@dataclass(slots=True)
class Outcome:
    """How an exchange went; `broken` is what cut it off after its first byte.

    `refused` is a whole answer that is no stream, for a client that has the head of one; `status` tells which.
    """

    response: web.StreamResponse
    status: int
    broken: GatewayError | None = None
    refused: bool = False


async def forward(
    request: web.Request,
    upstream: Upstream,
    outgoing: Outgoing,
    deadlines: Deadlines,
    own_lines: bytes,
    witness: Witness,
    begun: web.StreamResponse | None = None,
) -> Outcome:
    """Send `outgoing` and pass the response on, with `own_lines` in its head.

    `begun` is a stream that the client has the head of already: an answer that is no stream ends it as an error.

    Raises UpstreamLost or UpstreamStalled while nothing has reached the client; after that only ClientGone. Where the
    outcome says that it broke, `cut_off` must follow once the exchange is accounted for.
    """
    method, target = outgoing.method, outgoing.target
    try:
        async with upstream.exchange(method, target, outgoing.fields, outgoing.body, deadlines.first_byte) as answer:
            # An engine that dies between head and body has sent nothing worth keeping.
            await answer.begin()
            answer.bear(deadlines.idle)
            if outgoing.retelling and begun is None and answer.head.content_type != _STREAM:
                return await _told_whole(answer, outgoing.retelling, own_lines, deadlines.idle, witness)
            observe = witness.began(answer.head)
            if begun is not None and answer.head.content_type != _STREAM:
                return await _refused(request, begun, answer, outgoing.dialect, deadlines.idle, witness.sent, observe)
            if begun is not None:
                await written(begun, _NOTHING, request, deadlines.idle)
            relay = _relay_of(request, outgoing, answer, own_lines, begun, deadlines.idle, witness.sent)
            return await _relayed(relay, request, answer, outgoing.dialect, deadlines.idle, observe)
    except UpstreamSilent as error:
        raise UpstreamStalled(f"the engine sent nothing for {deadlines.first_byte:.0f} s") from error


def _relay_of(
    request: web.Request,
    outgoing: Outgoing,
    answer: Answer,
    own: bytes,
    begun: web.StreamResponse | None,
    idle: float,
    on_sent: Callable[[int], None],
) -> "_Relay | PublicRelay":
    stream = answer.head.content_type == _STREAM
    if outgoing.retelling and stream:
        return retold.relay(request, answer, own, begun, outgoing.retelling, idle, on_sent)
    way = _Relay if _KNOWN else fallback.as_it_is
    return way(request, answer, own, begun, outgoing.unasked if stream else None, idle, on_sent)


async def _told_whole(
    answer: Answer, retelling: retold.Retelling, own: bytes, idle: float, witness: Witness
) -> Outcome:
    """Nothing has gone out before all of it is here: one that breaks off is as good as none."""
    content = await retold.read(answer, idle)
    if observe := witness.began(answer.head):
        observe(content)
    response = retold.document(answer, own, content, retelling)
    witness.sent(len(response.body) if isinstance(response.body, bytes) else 0)
    return Outcome(response, answer.status)


async def _relayed(
    relay: "_Relay | PublicRelay",
    request: web.Request,
    answer: Answer,
    dialect: Dialect,
    idle: float,
    observe: Observe | None,
) -> Outcome:
    broken: GatewayError | None = None
    try:
        await relay.run(observe)
    except asyncio.CancelledError as cancelled:
        broken = flights.reason(request, cancelled)
    except ConnectionSilent:
        broken = UpstreamStalled(f"the engine fell silent for {idle:.0f} s")
    except (ConnectionLost, BadResponse):
        broken = UpstreamError("the engine broke off in the middle of its answer")
    if broken and answer.head.content_type == _STREAM:
        await relay.insert(error_event(broken, dialect))
    return Outcome(relay.response, answer.status, broken)


async def refuse(
    request: web.Request,
    response: web.StreamResponse,
    error: GatewayError,
    dialect: Dialect,
    patience: float,
    on_sent: Callable[[int], None],
) -> None:
    """The error of a stream that has begun with nothing but comments; `cut_off` must follow."""
    event = error_event(error, dialect)
    on_sent(len(event))
    await written(response, event, request, patience)


def cut_off(request: web.Request) -> None:
    """Close the client's connection without the end that would make a broken body look whole.

    What was written still goes out. This cancels the handler, as if the client had left.
    """
    ClientConnection(request).close()


async def _refused(
    request: web.Request,
    begun: web.StreamResponse,
    answer: Answer,
    dialect: Dialect,
    patience: float,
    on_sent: Callable[[int], None],
    observe: Observe | None,
) -> Outcome:
    try:
        async with asyncio.timeout(patience):
            said = await answer.read()
    except (UpstreamLost, TimeoutError):
        said = b""
    if observe:
        observe(said)
    text = said[:_LONGEST_ECHO].decode("utf-8", "replace")
    error = UpstreamError(f"the engine answered {answer.status}", detail=text)
    await refuse(request, begun, error, dialect, patience, on_sent)
    return Outcome(begun, answer.status, refused=True)


class _Relay:
    """One answer on its way."""

    def __init__(
        self,
        request: web.Request,
        answer: Answer,
        own: bytes,
        begun: web.StreamResponse | None,
        strip: Unasked | None,
        idle: float,
        on_sent: Callable[[int], None],
    ) -> None:
        newest = request.version >= HttpVersion11
        framing = answer.head.framing
        to_chunks = newest and begun is not None
        goes_on = newest and bool(request.keep_alive) and (to_chunks or framing is not CLOSE)
        self.response = Sent(answer.status, goes_on)
        self._on_sent = on_sent
        self._answer = answer
        self._client = ClientConnection(request)
        self._chunked = newest and framing is CHUNKED
        self._outlet: Outlet = outlet(framing, to_chunks, not newest, strip)
        self._through = self._outlet.through
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
                await self._answer.relay(None, self._take)
        except (ConnectionLost, BadResponse) as error:
            if self._gone:
                raise ClientGone from error
            raise
        finally:
            if self._draining:
                self._draining.cancel()
                self._answer.resume()
        if last := self._pending + self._outlet.end():
            self._client.write(last)
        if self._client.congested:
            await self._client.drain(self._idle)

    async def insert(self, event: bytes) -> None:
        """Say why it broke off, where there is a place for it."""
        place = self._outlet.insert(event) or (self._answer.insert(event) if self._chunked else b"")
        if place:
            self._on_sent(len(place))
            self._client.write(self._pending + place)

    def _take(self, data: bytes) -> None:
        if self._observe:
            self._observe(data)
        if self._gone:
            return
        piece = self._through(data)
        try:
            congested = self._client.write(self._pending + piece if self._pending else piece)
        except ClientGone:
            return self._leave()
        self._pending = b""
        self._on_sent(len(piece))
        if congested and self._draining is None:
            self._answer.pause()
            self._draining = spawn(self._drain(), name="drain-client")

    async def _drain(self) -> None:
        try:
            await self._client.drain(self._idle)
        except ClientGone:
            self._leave()
        else:
            self._draining = None
            self._answer.resume()

    def _leave(self) -> None:
        self._gone = True
        self._answer.abort()
