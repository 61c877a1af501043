"""llamaproxy.server.upgrade: WebSockets of a backend, through the gateway."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestClient, TestServer

from llamaproxy.server.guard import fingerprint
from tests.gateway import PATIENCE
from tests.server.conftest import Serve
from tests.server.raw import connected, say, until_closed

Gateway = TestClient[Any, Any]
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HANDSHAKE = (
    b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Site:
    """A server with an echo, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []
        self.ended = asyncio.Event()
        self.flood = 0

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/base/health", self._health)
        app.router.add_get("/base/echo", self._echo)
        app.router.add_get("/base/plain", self._plain)
        return app

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _plain(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        return web.json_response({"upgrade": request.headers.get("Upgrade")})

    async def _echo(self, request: web.Request) -> web.WebSocketResponse:
        self.asked.append(request)
        socket = web.WebSocketResponse(protocols=("chat",), max_msg_size=0)
        await socket.prepare(request)
        await socket.send_str("hello")
        for _ in range(self.flood):
            await socket.send_bytes(b"x" * 1024**2)
        try:
            async for message in socket:
                if message.data == "leave":
                    await socket.close(code=4000)
                elif message.type is WSMsgType.TEXT:
                    await socket.send_str(message.data)
                else:
                    await socket.send_bytes(message.data)
        finally:
            self.ended.set()
        return socket


@pytest.fixture
async def site() -> Site:
    return Site()


@pytest.fixture
async def port(site: Site) -> AsyncIterator[int]:
    async with TestServer(site.application(), host="127.0.0.1") as server:
        assert server.port
        yield server.port


@pytest.fixture
async def gateway(serve: Serve, port: int) -> Gateway:
    return await begin(serve, port)


async def begin(serve: Serve, port: int, **engine: Any) -> Gateway:
    far = {"url": f"http://127.0.0.1:{port}/base", "health_path": "/health", "api_key": "secret"}
    return await serve(models={"far": far}, engine=engine)


async def rows(gateway: Gateway) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await (await gateway.get("/api/requests")).json())["requests"]
    return found


async def in_flight(gateway: Gateway) -> int:
    (model,) = (await (await gateway.get("/api/models")).json())["models"]
    return int(model["in_flight"])


async def ended_rows(gateway: Gateway) -> list[dict[str, Any]]:
    """All of them, once they have ended."""
    end = time.monotonic() + PATIENCE
    while "in_flight" in {row["state"]: row for row in await rows(gateway)}:
        assert time.monotonic() < end, "it does not end"
        await asyncio.sleep(0.01)
    return await rows(gateway)


async def test_messages_pass_both_ways_under_a_lease(gateway: Gateway, site: Site) -> None:
    async with gateway.ws_connect("/upstream/far/echo?a=b", protocols=("chat",)) as socket:
        assert socket.protocol == "chat"
        assert await socket.receive_str() == "hello"
        for size in (0, 1, 200, 70_000, 3_000_000):
            await socket.send_bytes(b"x" * size)
            assert await socket.receive_bytes() == b"x" * size
        assert await in_flight(gateway) == 1
        (row,) = await rows(gateway)
        assert (row["state"], row["model"], row["endpoint"]) == ("in_flight", "far", "upstream")
    (row,) = await ended_rows(gateway)
    assert (row["state"], row["status"]) == ("ok", 101)
    assert row["bytes_in"] > 3_000_000 < row["bytes_out"]
    assert await in_flight(gateway) == 0


async def test_backend_gets_its_own_key_and_not_the_clients(gateway: Gateway, site: Site) -> None:
    mine = {"Authorization": "Bearer mine", "Cookie": "a=b", "X-Kept": "1"}
    async with gateway.ws_connect("/upstream/far/echo?a=b", headers=mine):
        (asked,) = site.asked
    assert asked.headers.getall("Authorization") == ["Bearer secret"]
    assert "Cookie" not in asked.headers
    assert (asked.headers["X-Kept"], asked.query_string) == ("1", "a=b")


async def test_close_of_the_backend_reaches_the_client(gateway: Gateway) -> None:
    async with gateway.ws_connect("/upstream/far/echo") as socket:
        await socket.send_str("leave")
        assert await socket.receive_str() == "hello"
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 4000)


async def test_client_that_leaves_ends_it(gateway: Gateway, site: Site) -> None:
    socket = await gateway.ws_connect("/upstream/far/echo")
    await socket.receive_str()
    assert socket._response.connection and socket._response.connection.transport
    socket._response.connection.transport.abort()
    await asyncio.wait_for(site.ended.wait(), PATIENCE)
    (row,) = await ended_rows(gateway)
    assert (row["state"], row["status"]) == ("ok", 101)


async def test_silence_ends_it(serve: Serve, port: int) -> None:
    gateway = await begin(serve, port, idle_timeout="200ms")
    async with gateway.ws_connect("/upstream/far/echo") as socket:
        assert await socket.receive_str() == "hello"
        async with asyncio.timeout(PATIENCE):
            assert (await socket.receive()).type in (WSMsgType.CLOSED, WSMsgType.CLOSE)
    assert (await ended_rows(gateway))[0]["state"] == "ok"


async def test_client_that_does_not_read_is_not_buffered_for(gateway: Gateway, site: Site) -> None:
    site.flood = 200
    async with connected(gateway.port) as (reader, writer):
        writer.write(b"GET /upstream/far/echo HTTP/1.1\r\n" + HANDSHAKE)
        await asyncio.wait_for(reader.readuntil(b"hello"), PATIENCE)
        before = -1
        while before != (now := (await rows(gateway))[0]["bytes_out"]):
            before = now
            await asyncio.sleep(0.2)
        assert now < 50 * 1024**2


async def test_backend_that_does_not_read_holds_the_client(serve: Serve) -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/health " in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + ACCEPT
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\n" + upgrade + b"\r\n\r\n")
            await until.wait()
        writer.close()

    until = asyncio.Event()
    async with await asyncio.start_server(deaf, "127.0.0.1", 0) as server:
        gateway = await begin(serve, server.sockets[0].getsockname()[1])
        async with connected(gateway.port) as (reader, writer):
            writer.write(b"GET /upstream/far/echo HTTP/1.1\r\n" + HANDSHAKE)
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 200:
                    writer.write(b"x" * 1024**2)
                    await asyncio.wait_for(writer.drain(), 0.5)
                    sent += 1
            assert sent < 50
            until.set()
            writer.transport.abort()


async def test_frames_that_come_with_the_handshake_are_not_lost(gateway: Gateway) -> None:
    frame = b"\x81\x85\x00\x00\x00\x00early" + b"\x88\x80\x00\x00\x00\x00"
    answers = await say(gateway.port, b"GET /upstream/far/echo HTTP/1.1\r\n" + HANDSHAKE + frame)
    head, _, text = answers.text.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head.lower()
    assert b"x-request-id: " in head.lower()
    assert text.startswith(b"\x81\x05hello\x81\x05early\x88")


@pytest.mark.parametrize(
    "change",
    [
        (b"Upgrade: websocket", b"Upgrade: h2c"),
        (b"Connection: Upgrade", b"Connection: x"),
        (b"Version: 13", b"Version: 8"),
        (b"Key: dGhl", b"Key: "),
    ],
)
async def test_other_upgrades_are_requests_like_any_other(gateway: Gateway, change: tuple[bytes, bytes]) -> None:
    asked = b"GET /upstream/far/plain HTTP/1.1\r\n" + HANDSHAKE.replace(*change)
    async with connected(gateway.port) as (reader, writer):
        writer.write(asked)
        async with asyncio.timeout(PATIENCE):
            assert b" 200 " in await reader.readline()
            assert (await reader.readuntil(b"}")).endswith(b'{"upgrade": null}')
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await until_closed(reader)).statuses == [200]


async def test_no_other_path_changes_its_protocol(gateway: Gateway, site: Site) -> None:
    answers = await say(
        gateway.port, b"GET /health HTTP/1.1\r\n" + HANDSHAKE.replace(b": Upgrade", b": Upgrade, close")
    )
    assert answers.statuses == [200]
    assert not site.asked


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/upstream/far/plain", {}, 502),
        ("/upstream/nobody/echo", {}, 404),
        ("/upstream/far/..%2Fecho", {}, 400),
        ("/upstream/far/echo", {"Origin": "https://evil.example"}, 403),
        ("/upstream/far/echo", {"Host": "evil.example"}, 403),
    ],
)
async def test_what_does_not_begin_is_an_error(
    gateway: Gateway, path: str, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await gateway.ws_connect(path, headers=headers)
    assert refused.value.status == status
    assert await in_flight(gateway) == 0


async def test_many_at_once_are_many_leases(gateway: Gateway) -> None:
    sockets = await asyncio.gather(*(gateway.ws_connect("/upstream/far/echo") for _ in range(50)))
    assert await in_flight(gateway) == 50
    for socket in sockets:
        await socket.close()
    assert len(await ended_rows(gateway)) == 50


async def test_it_takes_a_place_of_its_model_and_of_its_key(serve: Serve, port: int) -> None:
    far = {"url": f"http://127.0.0.1:{port}/base", "health_path": "/health", "api_key": "secret", "concurrency": 2}
    key = {"sha256": fingerprint("lp-one"), "concurrency": 1}
    gateway = await serve(models={"far": far}, keys={"one": key, "two": {"sha256": fingerprint("lp-two")}})
    first = await gateway.ws_connect("/upstream/far/echo", headers={"X-Api-Key": "lp-one"})
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await gateway.ws_connect("/upstream/far/echo", headers={"X-Api-Key": "lp-one"})
    assert refused.value.status == 429
    second = await gateway.ws_connect("/upstream/far/echo", headers={"X-Api-Key": "lp-two"})
    page = await (await gateway.get("/api/models/far", headers={"X-Api-Key": "lp-two"})).json()
    assert page["in_flight"] == 2
    listed = await (await gateway.get("/api/requests", headers={"X-Api-Key": "lp-two"})).json()
    assert {row["backend"] for row in listed["requests"] if row["state"] == "in_flight"} == {"far#1"}
    for socket in (first, second):
        await socket.close()
