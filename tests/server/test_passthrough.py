"""What the gateway relies on in aiohttp's server: a response that was sent already."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from llamaproxy.server.passthrough import HIGH_WATER, ClientConnection, ClientGone, Sent, known

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server with this one handler, and connects to it."""
    servers: list[TestServer] = []
    writers: list[asyncio.StreamWriter] = []

    async def start(handler: Handler) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app, host="127.0.0.1", handler_cancellation=True)
        await server.start_server()
        servers.append(server)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writers.append(writer)
        return reader, writer

    yield start
    for writer in writers:
        writer.close()
    for server in servers:
        await server.close()


async def answer(request: web.Request) -> web.StreamResponse:
    ClientConnection(request).write(ANSWER)
    return Sent(200, keep_alive=True)


async def test_nothing_is_added_and_the_connection_goes_on(serve: Serve) -> None:
    reader, writer = await serve(answer)
    for _ in range(3):
        writer.write(ASK)
        assert await reader.readexactly(len(ANSWER)) == ANSWER
    writer.write(ASK + ASK)
    assert await reader.readexactly(2 * len(ANSWER)) == 2 * ANSWER, "one after the other, also when they come together"


async def test_body_of_the_request_is_left_behind(serve: Serve) -> None:
    async def read(request: web.Request) -> web.StreamResponse:
        ClientConnection(request).write(ANSWER.replace(b"ok", b"%02d" % len(await request.read())))
        return Sent(200, keep_alive=True)

    reader, writer = await serve(read)
    for _ in range(2):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789")
        assert (await reader.readexactly(len(ANSWER))).endswith(b"10")


async def test_connection_ends_where_it_may_not_go_on(serve: Serve) -> None:
    async def once(request: web.Request) -> web.StreamResponse:
        ClientConnection(request).write(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
        return Sent(200, keep_alive=False)

    reader, writer = await serve(once)
    writer.write(ASK)
    assert (await reader.read(-1)).endswith(b"until the end")


async def test_ordinary_answer_may_follow(serve: Serve) -> None:
    async def either(request: web.Request) -> web.StreamResponse:
        return web.Response(text="plain") if request.path == "/plain" else await answer(request)

    reader, writer = await serve(either)
    writer.write(ASK)
    assert await reader.readexactly(len(ANSWER)) == ANSWER
    writer.write(ASK.replace(b"/ ", b"/plain "))
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert await reader.readexactly(5) == b"plain"


async def test_client_that_reads_nothing_is_noticed(serve: Serve) -> None:
    told: asyncio.Queue[bool] = asyncio.Queue()

    async def flood(request: web.Request) -> web.StreamResponse:
        connection = ClientConnection(request)
        connection.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not connection.congested:
            connection.write(b"x" * HIGH_WATER)
        try:
            await connection.drain(0.05)
        except ClientGone:
            told.put_nowait(request.transport is None or request.transport.is_closing())
            raise
        return Sent(200, keep_alive=False)

    _, writer = await serve(flood)
    writer.write(ASK)
    assert await asyncio.wait_for(told.get(), 10)


async def test_drain_waits_for_a_client_that_reads(serve: Serve) -> None:
    size = 64 * HIGH_WATER

    async def large(request: web.Request) -> web.StreamResponse:
        connection = ClientConnection(request)
        connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(64):
            connection.write(b"x" * HIGH_WATER)
            if connection.congested:
                await connection.drain(10)
                assert not connection.congested
        return Sent(200, keep_alive=True)

    reader, writer = await serve(large)
    writer.write(ASK)
    await reader.readuntil(b"\r\n\r\n")
    assert len(await reader.readexactly(size)) == size


async def test_client_that_leaves_ends_the_handler(serve: Serve) -> None:
    ended = asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        ClientConnection(request).write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError("nothing sets that event")

    reader, writer = await serve(wait)
    writer.write(ASK)
    await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_closed_connection_takes_nothing_more(serve: Serve, how: str) -> None:
    refused = asyncio.Event()

    async def cut(request: web.Request) -> web.StreamResponse:
        connection = ClientConnection(request)
        connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        getattr(connection, how)()
        try:
            connection.write(b"more")
        except ClientGone:
            refused.set()
            raise
        raise AssertionError("it was taken")

    reader, writer = await serve(cut)
    writer.write(ASK)
    assert b"more" not in await reader.read(-1)
    assert refused.is_set()


@pytest.mark.parametrize(
    ("version", "taken"), [("3.14.5", True), ("3.15.0", True), ("3.16.0", False), ("4.0.0a1", False), ("3.x.1", False)]
)
def test_releases_that_nobody_has_looked_into_get_the_documented_way(
    monkeypatch: pytest.MonkeyPatch, version: str, taken: bool
) -> None:
    monkeypatch.setattr("aiohttp.__version__", version)
    assert known() is taken
