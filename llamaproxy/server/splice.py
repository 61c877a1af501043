"""Forwarding one exchange: the engine's response to the client, as it comes.

The seam of the data plane: `forward` is all the rest of the gateway knows of it. Owns which way an answer takes,
deadlines while bytes flow and the honest end of what breaks off.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import HttpVersion11, web

from llamaproxy.backends.lost import ConnectionLost, ConnectionSilent, UpstreamLost, UpstreamSilent
from llamaproxy.backends.upstream import Answer, Upstream
from llamaproxy.core import headers
from llamaproxy.core.response import BadResponse
from llamaproxy.core.routing import Dialect
from llamaproxy.errors import GatewayError, UpstreamError, UpstreamStalled
from llamaproxy.server import fallback, flights, retold
from llamaproxy.server.answers import error_event
from llamaproxy.server.fallback import PublicRelay
from llamaproxy.server.outgoing import Outgoing
from llamaproxy.server.passthrough import ClientConnection, known, sent, written
from llamaproxy.server.relay import Observe, Relay, Witness

_STREAM = b"text/event-stream"
_LONGEST_ECHO = 4096
_NOTHING = b":\n\n"
"""A comment, to have everything sent that was written before."""

_KNOWN = known()


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
            if not answer.begun:
                await answer.begin()
            if begun is None and _KNOWN and not outgoing.retelling and (content := answer.whole()) is not None:
                return await _at_once(request, answer, content, own_lines, deadlines.idle, witness)
            answer.bear(deadlines.idle)
            if outgoing.retelling and begun is None and answer.head.content_type != _STREAM:
                return await _told_whole(answer, outgoing.retelling, own_lines, deadlines.idle, witness)
            observe = witness.began(answer.head)
            if begun is not None and answer.head.content_type != _STREAM:
                return await _refused(request, begun, answer, outgoing.dialect, deadlines.idle, witness.sent, observe)
            if begun is not None:
                await written(begun, _NOTHING, request, deadlines.idle)
            relay = _relay_of(request, outgoing, answer, own_lines, begun, deadlines.idle, witness)
            return await _relayed(relay, request, answer, outgoing.dialect, deadlines.idle, observe)
    except UpstreamSilent as error:
        raise UpstreamStalled(f"the engine sent nothing for {deadlines.first_byte:.0f} s") from error


async def _at_once(
    request: web.Request, answer: Answer, content: bytes, own: bytes, idle: float, witness: Witness
) -> Outcome:
    """An answer that is here as a whole, with its length. All that can still happen is that its client is slow."""
    if observe := witness.began(answer.head):
        observe(content)
    goes_on = request.version >= HttpVersion11 and bool(request.keep_alive)
    client = ClientConnection(request)
    congested = client.write(headers.answer_head(answer.head, own, False, goes_on) + content)
    witness.sent(len(content))
    broken: GatewayError | None = None
    try:
        if congested:
            await client.drain(idle)
    except asyncio.CancelledError as cancelled:
        broken = flights.reason(request, cancelled)
    return Outcome(sent(answer.status, goes_on), answer.status, broken)


def _relay_of(
    request: web.Request,
    outgoing: Outgoing,
    answer: Answer,
    own: bytes,
    begun: web.StreamResponse | None,
    idle: float,
    witness: Witness,
) -> "Relay | PublicRelay":
    stream = answer.head.content_type == _STREAM
    if outgoing.retelling and stream:
        return retold.relay(request, answer, own, begun, outgoing.retelling, idle, witness.sent)
    unasked = outgoing.unasked if stream else None
    if _KNOWN:
        return Relay(request, answer, own, begun, unasked, idle, witness)
    return fallback.as_it_is(request, answer, own, begun, unasked, idle, witness.sent)


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
    relay: "Relay | PublicRelay",
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
