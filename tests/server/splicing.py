"""One exchange, between a client and an engine that sends exactly the bytes a test wants."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from llamaproxy.backends.command import Address
from llamaproxy.backends.lost import UpstreamLost
from llamaproxy.backends.upstream import Upstream
from llamaproxy.core.response import Head
from llamaproxy.core.routing import Dialect
from llamaproxy.core.stripping import Unasked
from llamaproxy.core.usage import StreamMeter
from llamaproxy.errors import GatewayError
from llamaproxy.server.outgoing import Outgoing
from llamaproxy.server.passthrough import ClientGone
from llamaproxy.server.retold import Retelling
from llamaproxy.server.splice import Deadlines, Outcome, cut_off, forward
from tests.folders import short_folder

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def says(*parts: bytes, then: Callable[[], Awaitable[Any]] | None = None) -> Script:
    """An engine that reads a request's head, sends these bytes, and closes unless `then` keeps it."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
        if then:
            await then()

    return script


class Watching:
    """A witness that only looks."""

    def __init__(
        self, on_head: Callable[[], None], observe: Callable[[bytes], None] | None, alone: StreamMeter | None
    ) -> None:
        self._on_head, self.alone = on_head, alone
        self._observe = alone.feed if alone and not observe else observe
        self.sent: Callable[[int], None] = lambda count: None

    def began(self, head: Head) -> Callable[[bytes], None] | None:
        self._on_head()
        return self._observe


@asynccontextmanager
async def spliced(
    script: Script,
    dialect: Dialect = Dialect.OPENAI,
    observe: Callable[[bytes], None] | None = None,
    ends: asyncio.Queue[str] | None = None,
    unasked: Unasked | None = None,
    retelling: Retelling | None = None,
    alone: StreamMeter | None = None,
    begins: Callable[[web.Request], None] = lambda request: None,
    outcomes: asyncio.Queue[Outcome] | None = None,
) -> AsyncIterator[TestClient[Any, Any]]:
    """A client of an application that forwards everything to the scripted engine, and its errors as texts.

    With `ends` every client is gone in the moment of the answer, and the errors are collected there; how others end,
    in `outcomes`.
    """
    path = short_folder() / "e.sock"

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def leave(request: web.Request) -> None:
        if ends and request.transport:
            request.transport.close()

    async def handle(request: web.Request) -> web.StreamResponse:
        outgoing = Outgoing(request.method, request.path, b"", await request.read(), dialect, unasked, retelling)
        own = b"x-own: 1\r\n"
        witness = Watching(lambda: leave(request), observe, alone)
        begins(request)
        try:
            outcome = await forward(request, upstream, outgoing, Deadlines(0.5, 0.5), own, witness)
        except (GatewayError, UpstreamLost, ClientGone) as error:
            if ends:
                ends.put_nowait(type(error).__name__)
            return web.Response(status=599, text=type(error).__name__)
        if outcomes:
            outcomes.put_nowait(outcome)
        if outcome.broken:
            cut_off(request)
        return outcome.response

    server = await asyncio.start_unix_server(engine, path)
    upstream = Upstream(Address(socket=path))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    client = TestClient(TestServer(app))
    await client.start_server()
    try:
        yield client
    finally:
        await client.close()
        await upstream.close()
        server.close()
        await server.wait_closed()


def takes_little(request: web.Request) -> None:
    """The kernel shall hold next to nothing of what goes to this client."""
    assert request.transport
    request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


@asynccontextmanager
async def slow_reader(client: TestClient[Any, Any]) -> AsyncIterator[asyncio.StreamReader]:
    """A client that has asked, and reads what the test reads."""
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    own.setblocking(False)
    await asyncio.get_running_loop().sock_connect(own, (client.host, client.port))
    reader, writer = await asyncio.open_connection(sock=own, limit=1024)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        yield reader
    finally:
        writer.close()
