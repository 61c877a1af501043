"""Forwarding one exchange: the engine's response to the client, as it comes.

The seam of the data plane: `forward` is all the rest of the gateway knows of it. Owns deadlines while bytes flow,
backpressure (a write waits for the client, a read is not asked for meanwhile) and the honest end of what breaks off.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from llamaproxy.backends.upstream import Upstream, UpstreamLost
from llamaproxy.core import headers as fields
from llamaproxy.core.routing import Dialect
from llamaproxy.errors import GatewayError, UpstreamError, UpstreamStalled
from llamaproxy.server.answers import error_event

_STREAM = "text/event-stream"
_LONGEST_ECHO = 4096


class ClientGone(Exception):
    """The client closed its connection before it had the whole answer."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The request as the engine gets it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes | None


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
    dialect: Dialect,
    own_headers: dict[str, str],
    on_head: Callable[[int], None],
    on_sent: Callable[[int], None],
    begun: web.StreamResponse | None = None,
) -> Outcome:
    """Send `outgoing` and pass the response on. `on_head` is told the status when the engine has answered, `on_sent`
    how many bytes of the body are given to the client's connection, each time.

    `begun` is a stream that the client has the head of already: an answer that is no stream ends it as an error.

    Raises UpstreamLost or UpstreamStalled while nothing has reached the client; after that only ClientGone. Where the
    outcome says that it broke, `cut_off` must follow once the exchange is accounted for.
    """
    async with _answer(upstream, outgoing, deadlines.first_byte) as answer:
        first = await _first_chunk(answer, deadlines.first_byte)
        on_head(answer.status)
        response = _head(request, answer, own_headers) if begun is None else begun
        await _sent(request, response.prepare(request), deadlines.idle)
        outcome = Outcome(response, answer.status)
        if begun is not None and answer.content_type != _STREAM:
            outcome.refused = True
            said = first[:_LONGEST_ECHO].decode("utf-8", "replace")
            error = UpstreamError(f"the engine answered {answer.status}", detail=said)
            await refuse(request, response, error, dialect, deadlines.idle, on_sent)
        elif request.method != "HEAD":
            await _body(request, answer, first, deadlines.idle, dialect, outcome, on_sent)
        return outcome


async def refuse(
    request: web.Request,
    response: web.StreamResponse,
    error: GatewayError,
    dialect: Dialect,
    patience: float,
    on_sent: Callable[[int], None],
) -> None:
    """The error as the last event of a stream that has begun; `cut_off` must follow."""
    event = error_event(error, dialect)
    on_sent(len(event))
    await _sent(request, response.write(event), patience)


def cut_off(request: web.Request) -> None:
    """Close the client's connection without the end that would make a broken body look whole.

    What was written still goes out. This cancels the handler, as if the client had left.
    """
    if request.transport:
        request.transport.close()


@asynccontextmanager
async def _answer(upstream: Upstream, outgoing: Outgoing, timeout: float) -> AsyncIterator[aiohttp.ClientResponse]:
    exchange = upstream.exchange(outgoing.method, outgoing.target, outgoing.headers, outgoing.body)
    try:
        async with asyncio.timeout(timeout):
            answer = await exchange.__aenter__()
    except TimeoutError as error:
        raise UpstreamStalled(f"the engine sent nothing for {timeout:.0f} s") from error
    try:
        yield answer
    finally:
        await exchange.__aexit__(None, None, None)


async def _first_chunk(answer: aiohttp.ClientResponse, timeout: float) -> bytes:
    """An engine that dies between head and body has sent nothing worth keeping: the request can be replayed."""
    try:
        async with asyncio.timeout(timeout):
            return await answer.content.readany()
    except TimeoutError as error:
        raise UpstreamStalled(f"the engine sent nothing for {timeout:.0f} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamLost(str(error)) from error


def _head(request: web.Request, answer: aiohttp.ClientResponse, own: dict[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, reason=answer.reason)
    for name, value in fields.to_client(answer.raw_headers):
        response.headers.add(name, value)
    response.headers.update(own)
    if "Content-Length" not in response.headers and request.version >= aiohttp.HttpVersion11:
        response.enable_chunked_encoding()
    return response


async def _body(
    request: web.Request,
    answer: aiohttp.ClientResponse,
    chunk: bytes,
    idle: float,
    dialect: Dialect,
    outcome: Outcome,
    on_sent: Callable[[int], None],
) -> None:
    try:
        while chunk:
            on_sent(len(chunk))
            await _sent(request, outcome.response.write(chunk), idle)
            chunk = await _next_chunk(answer, idle)
    except GatewayError as error:
        outcome.broken = error
        if answer.content_type == _STREAM:
            await refuse(request, outcome.response, error, dialect, idle, on_sent)
    else:
        await _sent(request, outcome.response.write_eof(), idle)


async def _next_chunk(answer: aiohttp.ClientResponse, idle: float) -> bytes:
    """What has arrived, or nothing at the proper end of the body."""
    try:
        async with asyncio.timeout(idle):
            return await answer.content.readany()
    except TimeoutError as error:
        raise UpstreamStalled(f"the engine fell silent for {idle:.0f} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamError("the engine broke off in the middle of its answer") from error


async def _sent(request: web.Request, writing: Awaitable[object], patience: float) -> None:
    """Returns when the client has taken enough for more to be worth reading. Raises ClientGone.

    One that takes nothing for so long holds a place that others wait for; what is still buffered for it is dropped.
    """
    try:
        async with asyncio.timeout(patience):
            await writing
    except TimeoutError as error:
        if request.transport:
            request.transport.abort()
        raise ClientGone from error
    except ConnectionError as error:
        raise ClientGone from error
