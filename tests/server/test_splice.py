"""One exchange, against an engine that sends exactly the bytes a test wants."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from llamaproxy.backends.command import Address
from llamaproxy.backends.upstream import Upstream, UpstreamLost
from llamaproxy.core.response import Head
from llamaproxy.core.routing import Dialect
from llamaproxy.core.stripping import Unasked
from llamaproxy.errors import GatewayError
from llamaproxy.server import splice
from llamaproxy.server.outgoing import Outgoing
from llamaproxy.server.passthrough import ClientGone
from llamaproxy.server.retold import Retelling
from llamaproxy.server.splice import Deadlines, cut_off, forward
from tests.folders import short_folder
from tests.gateway import PATIENCE

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


@pytest.fixture(autouse=True, params=["as it comes", "by documented means"])
def known(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the inside of aiohttp is known: what the client sees must not depend on it."""
    monkeypatch.setattr(splice, "_KNOWN", request.param == "as it comes")
    return bool(request.param == "as it comes")


class Watching:
    """A witness that only looks."""

    def __init__(self, on_head: Callable[[], None], observe: Callable[[bytes], None] | None) -> None:
        self._on_head, self._observe = on_head, observe
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
) -> AsyncIterator[TestClient[Any, Any]]:
    """A client of an application that forwards everything to the scripted engine, and its errors as texts.

    With `ends` every client is gone in the moment of the answer, and the errors are collected there.
    """
    socket = short_folder() / "e.sock"

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
        witness = Watching(lambda: leave(request), observe)
        try:
            outcome = await forward(request, upstream, outgoing, Deadlines(0.5, 0.5), own, witness)
        except (GatewayError, UpstreamLost, ClientGone) as error:
            if ends:
                ends.put_nowait(type(error).__name__)
            return web.Response(status=599, text=type(error).__name__)
        if outcome.broken:
            cut_off(request)
        return outcome.response

    server = await asyncio.start_unix_server(engine, socket)
    upstream = Upstream(Address(socket=socket))
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


async def test_head_and_body_pass_and_hop_by_hop_fields_do_not() -> None:
    head = b"HTTP/1.1 201 Made\r\nX-Engine: a\r\nX-Engine: b\r\nKeep-Alive: 5\r\nConnection: x-gone\r\nX-Gone: 1\r\n"
    async with spliced(says(head + b"Access-Control-Allow-Origin: *\r\nContent-Length: 5\r\n\r\nhello")) as client:
        response = await client.get("/")
        assert (response.status, response.reason, await response.read()) == (201, "Made", b"hello")
        assert response.headers.getall("X-Engine") == ["a", "b"]
        assert response.headers["x-own"] == "1"
        assert not {"X-Gone", "Keep-Alive", "Access-Control-Allow-Origin"} & set(response.headers)


async def test_chunked_body_arrives_whole() -> None:
    async with spliced(says(SSE, chunk(b"data: 1\n\n"), chunk(b"data: 2\n\n"), b"0\r\n\r\n")) as client:
        response = await client.get("/")
        assert await response.read() == b"data: 1\n\ndata: 2\n\n"


async def test_an_observer_sees_the_body_as_the_client_gets_it() -> None:
    seen: list[bytes] = []
    script = says(SSE, chunk(b"data: 1\n\n"), chunk(b"data: 2\n\n"), b"0\r\n\r\n")
    async with spliced(script, observe=seen.append) as client:
        response = await client.get("/")
        assert b"".join(seen) == await response.read() == b"data: 1\n\ndata: 2\n\n"


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'


@pytest.mark.parametrize(
    "parts",
    [
        (SSE, chunk(EVENT), chunk(EVENT), chunk(USAGE), chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"),
        (SSE + chunk(EVENT + EVENT + USAGE[:9]), chunk(USAGE[9:] + b"data: [DONE]\n\n") + b"0\r\n\r\n"),
        (SSE.replace(b"Transfer-Encoding: chunked\r\n", b""), EVENT + EVENT + USAGE, b"data: [DONE]\n\n"),
    ],
    ids=["a chunk each", "cut anywhere", "to the close"],
)
async def test_usage_that_the_client_did_not_ask_for_is_seen_by_the_witness_alone(parts: tuple[bytes, ...]) -> None:
    seen: list[bytes] = []
    async with spliced(says(*parts), observe=seen.append, unasked=Unasked.USAGE) as client:
        response = await client.get("/")
        assert await response.read() == EVENT + EVENT + b"data: [DONE]\n\n"
    assert USAGE in b"".join(seen)


@pytest.mark.parametrize("unasked", Unasked)
async def test_error_finds_its_place_where_counts_are_taken_out(unasked: Unasked) -> None:
    async with spliced(says(SSE, chunk(EVENT) + chunk(b'data: {"choi')), unasked=unasked) as client:
        response = await client.get("/")
        received = b""
        with pytest.raises(aiohttp.ClientPayloadError):
            async for data in response.content.iter_any():
                received += data
    assert received.startswith(EVENT)
    assert b'data: {"error"' in received


async def test_head_requests_have_no_body() -> None:
    async with spliced(says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")) as client:
        response = await client.head("/")
        assert response.headers["Content-Length"] == "5"
        assert await response.read() == b""


async def test_stream_that_breaks_off_says_so_and_does_not_end() -> None:
    async with spliced(says(SSE, chunk(b"data: 1\n\n"))) as client:
        response = await client.get("/")
        received = b""
        with pytest.raises(aiohttp.ClientPayloadError):
            async for part in response.content.iter_any():
                received += part
        assert received.startswith(b"data: 1\n\n")
        assert b'"code":"bad_upstream_response"' in received
        assert b"[DONE]" not in received


@pytest.mark.parametrize("dialect", [Dialect.ANTHROPIC, Dialect.RESPONSES])
async def test_dialects_with_named_events_get_a_named_error(dialect: Dialect) -> None:
    async with spliced(says(SSE, chunk(b"event: x\ndata: 1\n\n")), dialect) as client:
        response = await client.get("/")
        received = b""
        with pytest.raises(aiohttp.ClientPayloadError):
            async for part in response.content.iter_any():
                received += part
        assert b"\n\nevent: error\ndata: " in received


async def test_unary_body_that_breaks_off_only_breaks_the_connection() -> None:
    async with spliced(says(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf")) as client:
        response = await client.get("/")
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_silence_in_the_middle_is_an_error_event() -> None:
    async with spliced(says(SSE, chunk(b"data: 1\n\n"), then=lambda: asyncio.sleep(5))) as client:
        response = await client.get("/")
        received = b""
        with pytest.raises(aiohttp.ClientPayloadError):
            async for part in response.content.iter_any():
                received += part
        assert b"upstream_stalled" in received


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (says(), "UpstreamLost"),
        (says(b"HTTP/1.1 2"), "UpstreamLost"),
        (says(b"garbage\r\n\r\n"), "UpstreamLost"),
        (says(SSE), "UpstreamLost"),
        (says(then=lambda: asyncio.sleep(5)), "UpstreamStalled"),
        (says(SSE, then=lambda: asyncio.sleep(5)), "UpstreamStalled"),
    ],
)
async def test_nothing_reaches_the_client_before_the_first_byte(script: Script, error: str) -> None:
    async with spliced(script) as client:
        response = await client.get("/")
        assert (response.status, await response.text()) == (599, error)


async def test_slow_reader_is_waited_for_and_not_buffered_for() -> None:
    sent = 0
    part = chunk(b"x" * 65536)

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SSE)
        for _ in range(1600):
            writer.write(part)
            await writer.drain()
            sent += len(part)

    async with spliced(pour) as client:
        response = await client.get("/")
        await response.content.readany()
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 20 * 1024**2, "what is not read stays with the engine"
        response.close()


async def test_client_that_leaves_in_the_moment_of_the_answer_is_just_gone() -> None:
    ends: asyncio.Queue[str] = asyncio.Queue()
    async with spliced(says(SSE, chunk(b"data: 1\n\n"), b"0\r\n\r\n"), ends=ends) as client:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.get("/")
        assert await asyncio.wait_for(ends.get(), PATIENCE) == "ClientGone"


async def test_client_that_leaves_is_noticed_by_the_engine() -> None:
    gone = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SSE)
        try:
            while True:
                writer.write(chunk(b"data: 1\n\n"))
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            gone.set()
            raise

    async with spliced(drip) as client:
        response = await client.get("/")
        await response.content.readany()
        response.close()
        await asyncio.wait_for(gone.wait(), 5)
