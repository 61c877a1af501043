"""llamaproxy.server.lane: the short way of plain requests, and how a connection leaves it."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
import uvloop
from aiohttp import web

from llamaproxy import scope
from llamaproxy.core import plain
from llamaproxy.errors import RequestTooLarge
from llamaproxy.server import body, inbound
from llamaproxy.server.inbound import Connection, Inbound
from llamaproxy.server.incoming import Request
from llamaproxy.server.lane import Lane, Lanes
from llamaproxy.server.passthrough import ClientConnection, Sent
from tests.gateway import PATIENCE, until
from tests.server.conftest import InboundServer
from tests.server.raw import Answers, connected, say, until_closed

Handler = Callable[[Request], Awaitable[web.StreamResponse]]
Serve = Callable[..., Awaitable[InboundServer]]

LINE = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def ask(content: bytes = b"hi") -> bytes:
    return LINE + b"Content-Length: %d\r\n\r\n" % len(content) + content


def way(request: Request) -> str:
    return "long" if isinstance(request.protocol, Connection) else "short"


async def echo(request: Request) -> web.StreamResponse:
    """By which way it came, and what it is."""
    content = await body.read(request, 1 << 20, 5)
    return web.Response(text=f"{way(request)} {request.method} {request.path_qs} {content!r}")


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server with this one handler."""
    servers: list[InboundServer] = []

    async def start(handler: Handler = echo, patience: float = PATIENCE, prefix: str = "") -> InboundServer:
        server = InboundServer(Inbound(handler, lambda: patience, lambda: prefix))
        await server.start_server()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.close()


async def answer(reader: asyncio.StreamReader) -> str:
    """The body of the next one."""
    async with asyncio.timeout(PATIENCE):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return (await reader.readexactly(length)).decode()


class Gate:
    """A handler that says when it is there, and waits."""

    def __init__(self) -> None:
        self.entered, self.opened, self.cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, request: Request) -> web.StreamResponse:
        self.transport = cast(asyncio.Transport, request.transport)
        self.entered.set()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await echo(request)

    async def passed(self) -> None:
        await asyncio.wait_for(self.entered.wait(), PATIENCE)


class TestShortWay:
    async def test_plain_requests_go_it_one_after_the_other(self, serve: Serve) -> None:
        async with connected((await serve()).port) as (reader, writer):
            for content in (b"a", b"b" * 60_000, b""):
                writer.write(ask(content))
                assert await answer(reader) == f"short POST /v1/completions {content!r}"

    async def test_a_body_may_come_after_its_head_and_in_pieces(self, serve: Serve) -> None:
        async with connected((await serve()).port) as (reader, writer):
            for content in (b"hello", b"hi"):
                for piece in (ask(content)[:-2], content[-2:-1], content[-1:]):
                    writer.write(piece)
                    await asyncio.sleep(0.01)
                assert await answer(reader) == f"short POST /v1/completions {content!r}"
            writer.write(ask(b""))
            assert await answer(reader) == "short POST /v1/completions b''"

    async def test_request_is_one_of_aiohttps(self, serve: Serve) -> None:
        async def look(request: Request) -> web.StreamResponse:
            seen = [
                *(request.method, request.raw_path, request.path, tuple(request.version), str(request.rel_url)),
                *(request.headers["host"], request.raw_headers, request.query_string, request.remote),
                *(request.complete, request.keep_alive, await request.read(), request.task),
                *((await request.clone(rel_url="/other").read()), request.transport is not None),
            ]
            return web.Response(text=repr(seen))

        async with connected((await serve(look)).port) as (reader, writer):
            writer.write(ask())
            path = "/v1/completions"
            fields = ((b"Host", b"x"),)
            here = [path, path, (1, 1), path, "x", fields, "", "127.0.0.1", True, True, b"hi", None, b"hi", True]
            assert await answer(reader) == repr(["POST", *here])

    async def test_what_is_sent_ahead_is_served_after_the_answer_before(self, serve: Serve) -> None:
        gate = Gate()
        async with connected((await serve(gate)).port) as (reader, writer):
            writer.write(ask(b"1"))
            await gate.passed()
            writer.write(ask(b"2"))
            await asyncio.sleep(0.01)
            gate.opened.set()
            assert [await answer(reader) for _ in range(2)] == [
                f"short POST /v1/completions b'{number}'" for number in (1, 2)
            ]

    async def test_no_request_is_told_from_the_context_of_another(self, serve: Serve) -> None:
        seen: list[str | None] = []
        gate = Gate()

        async def look(request: Request) -> web.StreamResponse:
            seen.append(scope.model.get())
            scope.model.set("m")
            return await gate(request)

        async with connected((await serve(look)).port) as (reader, writer):
            writer.write(ask())
            await gate.passed()
            writer.write(ask() + LAST)
            await asyncio.sleep(0.01)
            gate.opened.set()
            await until_closed(reader)
        assert seen == [None, None, None]

    async def test_nobody_can_send_ahead_without_end(self, serve: Serve) -> None:
        gate = Gate()
        async with connected((await serve(gate)).port) as (reader, writer):
            writer.write(ask())
            await gate.passed()
            assert gate.transport.is_reading()
            writer.write(ask(b"x" * plain.LONGEST_BODY))
            await until(lambda: not gate.transport.is_reading(), "nothing more is read")
            gate.opened.set()
            assert [(await answer(reader)).split()[0] for _ in range(2)] == ["short", "short"]
            writer.write(LAST)
            assert (await until_closed(reader)).statuses == [200]

    async def test_what_comes_ahead_in_small_pieces_costs_each_of_them_the_same(self) -> None:
        """Four times as many take about four times as long; if all were counted with each, it would be sixteen."""

        def took(pieces: int) -> float:
            lane = Lanes(echo, asyncio.Protocol)()
            lane._serving = cast("asyncio.Task[None]", asyncio.current_task())
            began = time.process_time()
            for _ in range(pieces):
                lane.data_received(b"x")
            return time.process_time() - began

        few = min(took(3000) for _ in range(3))
        assert min(took(12000) for _ in range(3)) < 10 * few

    @pytest.mark.parametrize("query", [b"", b"?long"])
    async def test_nothing_follows_an_answer_that_was_cut_off(self, serve: Serve, query: bytes) -> None:
        gate = Gate()
        count = 0

        async def cut(request: Request) -> web.StreamResponse:
            nonlocal count
            count += 1
            await gate(request)
            ClientConnection(request).write(b"x" * 20_000_000)
            ClientConnection(request).close()
            return Sent(200, keep_alive=True)

        async with connected((await serve(cut)).port) as (reader, writer):
            one = ask().replace(b" HTTP", query + b" HTTP")
            writer.write(one)
            await gate.passed()
            writer.write(one)
            await asyncio.sleep(0.01)
            gate.opened.set()
            assert len((await until_closed(reader)).text) == 20_000_000
        assert count == 1

    async def test_a_body_has_its_bounds_here_too(self, serve: Serve) -> None:
        async def bounded(request: Request) -> web.StreamResponse:
            try:
                return web.Response(text=repr(await body.read(request, 2, 5)))
            except RequestTooLarge as error:
                return web.Response(text=error.code)

        async with connected((await serve(bounded)).port) as (reader, writer):
            for content, heard in ((b"hi", "b'hi'"), (b"hi!", RequestTooLarge.code)):
                writer.write(ask(content))
                assert await answer(reader) == heard

    async def test_prefix_is_taken_away_here_too(self, serve: Serve) -> None:
        async with connected((await serve(prefix="/v1")).port) as (reader, writer):
            writer.write(ask())
            assert await answer(reader) == "short POST /completions b'hi'"


class TestLeaving:
    @pytest.mark.parametrize(
        "data",
        [
            LAST.replace(b"Connection: close\r\n", b""),
            ask() + ask(),
            ask() + b"\r\n",
            b"\r\n" + ask(),
            ask().replace(b"completions", b"completions?x=y"),
            ask().replace(b"Host: x", b"Host:x"),
            LINE + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            ask(b"x" * 70_000),
        ],
    )
    @pytest.mark.parametrize("before", [0, 2])
    async def test_with_anything_else_a_connection_goes_the_long_way(
        self, serve: Serve, data: bytes, before: int
    ) -> None:
        async with connected((await serve()).port) as (reader, writer):
            for _ in range(before):
                writer.write(ask())
                assert (await answer(reader)).startswith("short")
            writer.write(data)
            assert (await answer(reader)).startswith("long")
            writer.write(ask() + LAST)
            heard = await until_closed(reader)
        assert b"short" not in heard.text
        assert b"long GET /last" in heard.text

    async def test_half_a_head_goes_the_long_way(self, serve: Serve) -> None:
        async with connected((await serve()).port) as (reader, writer):
            writer.write(LINE)
            await asyncio.sleep(0.01)
            writer.write(ask()[len(LINE) :])
            assert await answer(reader) == "long POST /v1/completions b'hi'"

    async def test_what_is_sent_ahead_and_unusual_goes_it_after_the_answer_before(self, serve: Serve) -> None:
        gate = Gate()
        async with connected((await serve(gate)).port) as (reader, writer):
            writer.write(ask(b"1"))
            await gate.passed()
            writer.write(ask(b"2") + LAST)
            await asyncio.sleep(0.01)
            gate.opened.set()
            heard = await until_closed(reader)
        assert [heard.text.index(word) for word in (b"short", b"long POST", b"long GET")] != []
        assert heard.statuses == [200] * 3

    async def test_body_that_is_late_is_waited_for_elsewhere(self, serve: Serve) -> None:
        """Who refuses it does so before it has come."""
        gate = Gate()
        async with connected((await serve(gate)).port) as (reader, writer):
            writer.write(ask()[:-1])
            await gate.passed()
            writer.write(b"i")
            gate.opened.set()
            assert await answer(reader) == "long POST /v1/completions b'hi'"

    async def test_who_begins_late_is_not_forgotten(self, serve: Serve) -> None:
        port = (await serve()).port
        async with connected(port), connected(port) as (reader, writer):
            await asyncio.sleep(0.05)
            writer.write(ask()[:-1])
            await asyncio.sleep(0.2)
            writer.write(b"i")
            assert await answer(reader) == "long POST /v1/completions b'hi'"

    async def test_silence_from_the_beginning_has_its_deadline(self, serve: Serve) -> None:
        assert (await say((await serve(patience=0.3)).port)).statuses == [408]

    async def test_client_that_takes_nothing_is_waited_for_on_the_long_way_too(self, serve: Serve) -> None:
        asked, drained = asyncio.Event(), asyncio.Event()

        async def talk(request: Request) -> web.StreamResponse:
            if request.path == "/last":
                asked.set()
                await request.writer.drain()
                drained.set()
                return Sent(200, keep_alive=False)
            ClientConnection(request).write(b"x" * 20_000_000)
            return Sent(200, keep_alive=True)

        async with connected((await serve(talk)).port) as (reader, writer):
            writer.write(ask())
            await reader.readexactly(1000)
            writer.write(LAST)
            await asyncio.wait_for(asked.wait(), PATIENCE)
            await asyncio.sleep(0.05)
            assert not drained.is_set()
            await until_closed(reader)
        assert drained.is_set()


class TestEnds:
    async def test_client_that_leaves_ends_its_request_at_once(self, serve: Serve) -> None:
        gate = Gate()
        server = await serve(gate)
        async with connected(server.port) as (_, writer):
            writer.write(ask())
            await gate.passed()
        await asyncio.wait_for(gate.cancelled.wait(), PATIENCE)
        await until(lambda: not vars(server.inbound)["_lanes"], "nothing is kept of it")

    async def test_half_of_a_connection_is_none(self, serve: Serve) -> None:
        gate = Gate()
        async with connected((await serve(gate)).port) as (_, writer):
            writer.write(ask())
            await gate.passed()
            writer.write_eof()
            await asyncio.wait_for(gate.cancelled.wait(), PATIENCE)

    async def test_answer_that_ends_the_connection(self, serve: Serve) -> None:
        async def last(request: Request) -> web.StreamResponse:
            ClientConnection(request).write(OK)
            return Sent(200, keep_alive=False)

        assert (await say((await serve(last)).port, ask())).text == OK

    async def test_failure_outside_of_the_handler_is_an_answer(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fail(request: Request) -> web.StreamResponse:
            raise ValueError("a bug")

        heard = await say((await serve(fail)).port, ask())
        assert isinstance(heard, Answers)
        assert (heard.statuses, heard.error["code"]) == ([500], "internal_error")
        assert [record.exc_info is not None for record in caplog.records] == [True]

    async def test_failure_in_the_midst_of_an_answer_cuts_it_off(self, serve: Serve) -> None:
        async def fail(request: Request) -> web.StreamResponse:
            ClientConnection(request).write(OK[:-1])
            raise ValueError("a bug")

        assert (await say((await serve(fail)).port, ask())).text == OK[:-1]

    async def test_client_that_left_before_its_answer_is_no_failure(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)

        async def late(request: Request) -> web.StreamResponse:
            assert request.transport
            request.transport.abort()
            return web.Response()

        assert (await say((await serve(late)).port, ask())).text == b""
        assert not caplog.records

    async def test_stream_that_waits_for_its_client(self, serve: Serve) -> None:
        congested = asyncio.Event()
        drained = asyncio.Event()

        async def stream(request: Request) -> web.StreamResponse:
            connection = ClientConnection(request)
            connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n" + b"x" * 20_000_000)
            assert connection.congested
            congested.set()
            await connection.drain(PATIENCE)
            drained.set()
            return Sent(200, keep_alive=True)

        async with connected((await serve(stream)).port) as (reader, writer):
            writer.write(ask())
            await asyncio.wait_for(congested.wait(), PATIENCE)
            await asyncio.sleep(0.05)
            assert not drained.is_set()
            assert len(await answer(reader)) == 20_000_000
            await asyncio.wait_for(drained.wait(), PATIENCE)

    async def test_idle_connection_is_closed_without_a_word(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inbound, "KEEP_ALIVE", 0.2)
        async with connected((await serve(patience=0.4)).port) as (reader, writer):
            writer.write(ask())
            await answer(reader)
            assert (await until_closed(reader)).text == b""

    async def test_connection_is_idle_from_its_last_answer_on(self, serve: Serve) -> None:
        seen: list[tuple[Lane, float]] = []

        async def look(request: Request) -> web.StreamResponse:
            seen.append((cast(Lane, cast(Any, request.protocol)), asyncio.get_running_loop().time()))
            return await echo(request)

        async with connected((await serve(look)).port) as (reader, writer):
            for _ in range(2):
                writer.write(ask())
                await answer(reader)
                await asyncio.sleep(0.1)
            lane, then = seen[-1]
            lane.look(then + 0.99, silence=1, patience=1)
            writer.write(ask())
            assert (await answer(reader)).startswith("short")

    async def test_answer_may_take_longer_than_an_idle_connection_is_kept(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inbound, "KEEP_ALIVE", 0.1)
        gate = Gate()
        async with connected((await serve(gate, patience=0.1)).port) as (reader, writer):
            writer.write(ask())
            await gate.passed()
            await asyncio.sleep(0.3)
            gate.opened.set()
            assert (await answer(reader)).startswith("short")

    async def test_connections_are_kept_alive_where_packets_vanish(self, serve: Serve) -> None:
        async def look(request: Request) -> web.StreamResponse:
            assert request.transport
            peer = request.transport.get_extra_info("socket")
            options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE), (socket.IPPROTO_TCP, socket.TCP_NODELAY)]
            return web.Response(text=repr([bool(peer.getsockopt(*option)) for option in options]))

        async with connected((await serve(look)).port) as (reader, writer):
            writer.write(ask())
            assert await answer(reader) == "[True, True]"

    @pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
    def test_client_that_leaves_with_a_request_sent_ahead_leaves_nothing(self, run: Callable[..., Any]) -> None:
        """So much of it that it was not read any more: its end is seen just when that request should begin."""

        async def leave() -> None:
            gate = Gate()
            inbound = Inbound(gate, lambda: PATIENCE)
            async with InboundServer(inbound) as server, connected(server.port) as (_, writer):
                writer.write(ask())
                await gate.passed()
                writer.write(ask(b"x" * plain.LONGEST_BODY))
                await until(lambda: not gate.transport.is_reading(), "nothing more is read")
                writer.write_eof()
                await asyncio.sleep(0.01)
                gate.opened.set()
                await until(lambda: not len(inbound._lanes), "nothing is left of it")

        run(leave())


class TestShutdown:
    async def test_idle_ones_close_and_busy_ones_end(self, serve: Serve) -> None:
        gate = Gate()
        server = await serve(gate)
        async with connected(server.port) as (idle, _), connected(server.port) as (reader, writer):
            writer.write(ask())
            await gate.passed()
            server.inbound.pre_shutdown()
            assert (await until_closed(idle)).text == b""
            writer.write(ask())
            gate.opened.set()
            assert (await until_closed(reader)).statuses == [200]

    async def test_those_that_do_not_end_are_cancelled(self, serve: Serve) -> None:
        gate = Gate()

        async def talk(request: Request) -> web.StreamResponse:
            ClientConnection(request).write(b"x" * 20_000_000)
            return await gate(request)

        server = await serve(talk)
        async with connected(server.port) as (reader, writer):
            writer.write(ask())
            await gate.passed()
            await server.inbound.shutdown(0.05)
            assert gate.cancelled.is_set()
            assert len((await until_closed(reader)).text) == 20_000_000
