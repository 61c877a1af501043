"""llamaproxy.server.inbound: connections of clients, from their first byte to their end.

The first tests are those that fail where a release of aiohttp changes what the module builds on.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import http_parser, web, web_protocol

from llamaproxy.core import request_head
from llamaproxy.errors import GatewayError
from llamaproxy.server import body, inbound
from llamaproxy.server.inbound import Connection, Inbound
from llamaproxy.server.incoming import Request
from llamaproxy.server.parting import close_after
from tests.gateway import PATIENCE
from tests.server.conftest import InboundServer
from tests.server.raw import Answers, connected, say, until_closed

Handler = Callable[[Request], Awaitable[web.StreamResponse]]
Listen = Callable[..., Awaitable[int]]

ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
MOST_BODY = 100_000


async def echo(request: Request) -> web.StreamResponse:
    """What the request was, with its body; refusals of it as the gateway makes them."""
    try:
        content = await body.read(request, MOST_BODY, 5)
        response = web.Response(text=f"{request.method} {request.path_qs} {request.headers['Host']} {content!r}")
    except GatewayError as error:
        response = web.Response(status=error.status, text=error.message)
    if not request.complete:
        await close_after(request, response)
    return response


@pytest.fixture(params=["C", "Python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "HttpRequestParserC" if request.param == "C" else "HttpRequestParserPy"
    monkeypatch.setattr(web_protocol, "HttpRequestParser", getattr(http_parser, name))
    return str(request.param)


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """Starts a server for a handler; returns its port."""
    servers: list[InboundServer] = []

    async def start(handler: Handler = echo, patience: float = PATIENCE, prefix: str = "") -> int:
        server = InboundServer(Inbound(handler, lambda: patience, lambda: prefix))
        await server.start_server()
        servers.append(server)
        assert server.port
        return server.port

    yield start
    for server in servers:
        await server.close()


@asynccontextmanager
async def asked(port: int, data: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with connected(port) as (reader, writer):
        writer.write(data)
        yield reader, writer


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    """The body of the next answer."""
    async with asyncio.timeout(PATIENCE):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return await reader.readexactly(length)


class TestWhatItBuildsOn:
    async def test_every_connection_is_one_of_ours(self, listen: Listen) -> None:
        seen: list[Any] = []

        async def look(request: Request) -> web.StreamResponse:
            seen.append((type(request), type(request.protocol)))
            return web.Response()

        await say(await listen(look), LAST)
        assert seen == [(Request, Connection)]

    async def test_a_request_that_waits_for_its_turn_is_a_message(self, listen: Listen) -> None:
        waiting: list[int] = []

        async def look(request: Request) -> web.StreamResponse:
            waiting.append(len(request.protocol._messages))
            return web.Response()

        await say(await listen(look), ASK + ASK + LAST)
        assert waiting == [2, 1, 0]

    async def test_a_connection_that_waits_for_a_request_has_a_waiter(self, listen: Listen) -> None:
        seen: list[Connection] = []

        async def look(request: Request) -> web.StreamResponse:
            assert isinstance(request.protocol, Connection)
            seen.append(request.protocol)
            assert not request.protocol._waits()
            return web.Response()

        async with asked(await listen(look), ASK) as (reader, _):
            await reader.readuntil(b"\r\n\r\n")
            async with asyncio.timeout(PATIENCE):
                while not seen[0]._waits():  # noqa: ASYNC110 - nothing else tells
                    await asyncio.sleep(0)


class TestOrder:
    async def test_pipelined_requests_are_answered_one_after_the_other(self, listen: Listen) -> None:
        bodies = b"".join(POST + b"Content-Length: 2\r\n\r\n%02d" % number for number in range(50))
        answers = await say(await listen(), bodies + LAST)
        assert answers.statuses == [200] * 51
        places = [answers.text.index(b"b'%02d'" % number) for number in range(50)]
        assert places == sorted(places)

    async def test_empty_lines_before_a_request_are_nothing(self, listen: Listen) -> None:
        assert (await say(await listen(), b"\r\n\r\n" + LAST)).statuses == [200]

    async def test_byte_by_byte_is_the_same(self, listen: Listen) -> None:
        data = CHUNKED + b"2;x=y\r\nab\r\n0\r\nX: y\r\n\r\n" + LAST
        answers = await say(await listen(), *(data[place : place + 1] for place in range(len(data))))
        assert answers.statuses == [200, 200]
        assert b"POST / x b'ab'" in answers.text

    async def test_nothing_follows_a_malformed_request(self, listen: Listen) -> None:
        answers = await say(await listen(), b"GARBAGE\r\n\r\n" + LAST)
        assert answers.statuses == [400]


class TestForms:
    async def test_absolute_target_replaces_the_host(self, listen: Listen) -> None:
        data = LAST.replace(b"/last", b"http://y:81/last?a=b")
        assert (await say(await listen(), data)).text.endswith(b"GET /last?a=b y:81 b''")

    @pytest.mark.parametrize("target", [b"http://y", b"http://y?a=b"])
    async def test_absolute_target_without_a_path_is_the_root(self, listen: Listen, target: bytes) -> None:
        path = b"/" + target.removeprefix(b"http://y")
        assert (await say(await listen(), LAST.replace(b"/last", target))).text.endswith(b"GET " + path + b" y b''")

    async def test_body_of_an_absolute_target_is_read(self, listen: Listen) -> None:
        data = POST.replace(b"/ ", b"http://y/ ", 1) + b"Connection: close\r\nContent-Length: 2\r\n\r\nab"
        assert (await say(await listen(), data)).text.endswith(b"POST / y b'ab'")

    async def test_asterisk(self, listen: Listen) -> None:
        answers = await say(await listen(), LAST.replace(b"GET /last", b"OPTIONS *"))
        assert answers.text.endswith(b"OPTIONS * x b''")

    async def test_http_1_0_needs_no_host_and_ends(self, listen: Listen) -> None:
        async def ok(request: Request) -> web.StreamResponse:
            return web.Response(text="ok")

        assert (await say(await listen(ok), b"GET / HTTP/1.0\r\n\r\n")).text.endswith(b"\r\n\r\nok")

    @pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0"])
    async def test_upgrades_that_nobody_takes_are_ordinary_requests(self, listen: Listen, protocol: bytes) -> None:
        upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % protocol
        async with asked(await listen(), upgrade) as (reader, writer):
            assert (await answer_of(reader)).startswith(b"GET / ")
            writer.write(LAST)
            assert (await answer_of(reader)).startswith(b"GET /last ")

    async def test_trailers_are_dropped(self, listen: Listen) -> None:
        data = CHUNKED + b"2\r\nab\r\n0\r\nX-Trailer: y\r\nAuthorization: z\r\n\r\n" + LAST
        answers = await say(await listen(), data)
        assert answers.statuses == [200, 200]
        assert b"X-Trailer" not in answers.text


class TestLimits:
    async def test_as_much_as_the_engine_takes_passes(self, listen: Listen, parser: str) -> None:
        # The parser in Python counts the request line, the empty one and all of a line.
        spare = 0 if parser == "C" else 2
        fields = b"X: y\r\n" * (request_head.MOST_FIELDS - 3 - spare)
        long = b"Y: " + b"y" * (request_head.LONGEST_FIELD - 1 - spare) + b"\r\n"
        target = b"/" + b"x" * (request_head.LONGEST_TARGET - 1 - 7 * spare)
        data = LAST.replace(b"/last", target).replace(b"Connection", fields + long + b"Connection")
        assert (await say(await listen(), data)).statuses == [200]

    async def test_fields_of_a_request_behind_another_are_measured_too(self, listen: Listen) -> None:
        data = LAST.replace(b"Connection", b"Y: " + b"y" * request_head.LONGEST_FIELD + b"\r\nConnection")
        # The parser in Python refuses it before anybody knows where it begins.
        assert (await say(await listen(), ASK + data)).statuses[-1] in (400, 431)

    async def test_framing_of_a_body_is_bounded_by_its_content(
        self, listen: Listen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inbound, "_MOST_FRAMING", 4000)
        extended = b"1;x=" + b"y" * 1000 + b"\r\na\r\n"
        async with asked(await listen(), CHUNKED) as (reader, writer):
            for _ in range(20):
                writer.write(extended)
                await asyncio.sleep(0)
            answers = await until_closed(reader)
        assert answers.statuses == [400]

    async def test_small_chunks_are_nothing_bad(self, listen: Listen) -> None:
        chunks = b"4\r\nabcd\r\n" * 20_000 + b"0\r\n\r\n"
        assert (await say(await listen(), CHUNKED, chunks + LAST)).statuses == [200, 200]


class TestBrokenBodies:
    @pytest.mark.parametrize("rest", [b"XX\r\n", b"2\r\nabXX", b"-1\r\n"])
    async def test_framing_that_breaks_later_is_told_at_once(self, listen: Listen, rest: bytes) -> None:
        async with asked(await listen(), CHUNKED + b"2\r\nab\r\n") as (reader, writer):
            await asyncio.sleep(0.05)
            writer.write(rest)
            answers = await until_closed(reader)
        assert answers.statuses == [400]

    async def test_refused_upload_is_answered_at_once_and_not_read(self, listen: Listen) -> None:
        block = b"x" * 1024**2
        taken = 0
        async with asked(await listen(), POST + b"Content-Length: %d\r\n\r\n" % 1024**3) as (reader, writer):
            answer = asyncio.ensure_future(until_closed(reader))  # noqa: TID251 - a test has no use for tasks.spawn
            with pytest.raises(ConnectionError):
                for _ in range(1024):
                    writer.write(block)
                    await writer.drain()
                    taken += len(block)
            answers = await answer
        assert answers.statuses == [413]
        assert b"connection: close" in answers.last_head
        assert taken < 200 * 1024**2

    async def test_client_that_goes_on_sending_still_gets_its_answer(self, listen: Listen) -> None:
        async with asked(await listen(), POST + b"Content-Length: 4000000\r\n\r\n") as (reader, writer):
            for _ in range(4):
                writer.write(b"x" * 1_000_000)
                await writer.drain()
            assert (await until_closed(reader)).statuses == [413]


class TestExpectation:
    HEAD = POST + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"

    @pytest.mark.parametrize("target", [b"/", b"http://x/"])
    async def test_body_is_asked_for_once_it_is_wanted(self, listen: Listen, target: bytes) -> None:
        async with asked(await listen(), (self.HEAD % 2).replace(b" / ", b" " + target + b" ")) as (reader, writer):
            async with asyncio.timeout(PATIENCE):
                assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"ab")
            assert (await until_closed(reader)).statuses == [200]

    async def test_body_that_is_not_wanted_is_not_asked_for(self, listen: Listen) -> None:
        assert (await say(await listen(), self.HEAD % (MOST_BODY + 1))).statuses == [413]

    async def test_body_that_came_unasked_is_not_asked_for(self, listen: Listen) -> None:
        assert (await say(await listen(), self.HEAD % 2 + b"ab")).statuses == [200]

    async def test_old_clients_know_no_interim_answers(self, listen: Listen) -> None:
        async with asked(await listen(), (self.HEAD % 2).replace(b"HTTP/1.1", b"HTTP/1.0")) as (reader, writer):
            await asyncio.sleep(0.05)
            writer.write(b"ab")
            answer = await until_closed(reader)
        assert b" 100 " not in answer.text
        assert b" 200 " in answer.text


class TestDeadlines:
    @pytest.mark.parametrize("begun", [b"", b"G", ASK[:-1]])
    @pytest.mark.parametrize("before", [b"", ASK, POST + b"Content-Length: 2\r\n\r\nab"])
    async def test_head_that_does_not_become_complete(self, listen: Listen, before: bytes, begun: bytes) -> None:
        if before and not begun:
            pytest.skip("that is an idle connection")
        async with asked(await listen(patience=0.2), before) as (reader, writer):
            if before:
                await answer_of(reader)
            writer.write(begun)
            answers = await until_closed(reader)
        assert answers.statuses == [408]
        assert answers.error["code"] == "request_timeout"
        assert b"connection: close" in answers.last_head

    async def test_slow_writer_gains_nothing_by_going_on(self, listen: Listen) -> None:
        async with connected(await listen(patience=0.2)) as (reader, writer):
            answer = asyncio.ensure_future(until_closed(reader))  # noqa: TID251 - a test has no use for tasks.spawn
            writer.write(b"GET / HTTP/1.1\r\n")
            async with asyncio.timeout(PATIENCE):
                while not answer.done():
                    writer.write(b"X: y\r\n")
                    await asyncio.sleep(0.02)
            assert (await answer).statuses == [408]

    @pytest.mark.parametrize("after", [b"", b"\r\n"])
    async def test_idle_connection_may_stay_longer_than_a_head_may_take(self, listen: Listen, after: bytes) -> None:
        async with asked(await listen(patience=0.1), ASK) as (reader, writer):
            await answer_of(reader)
            writer.write(after)
            await asyncio.sleep(0.4)
            writer.write(LAST)
            assert (await until_closed(reader)).statuses == [200]

    async def test_idle_connection_is_closed_without_a_word(
        self, listen: Listen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inbound, "KEEP_ALIVE", 0.2)
        async with asked(await listen(), ASK) as (reader, _):
            await answer_of(reader)
            assert (await until_closed(reader)).text == b""

    async def test_answer_may_take_longer_than_a_head(self, listen: Listen) -> None:
        async def slow(request: Request) -> web.StreamResponse:
            await asyncio.sleep(0.4)
            return web.Response()

        assert (await say(await listen(slow, 0.1), LAST)).statuses == [200]

    async def test_idle_connections_of_many_slow_writers_hold_nobody_up(self, listen: Listen) -> None:
        port = await listen(patience=0.5)
        slow = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(200)))
        for _, writer in slow:
            writer.write(b"GET / HTTP/1.1\r\n")
        assert (await say(port, LAST)).statuses == [200]
        answers = await asyncio.gather(*(until_closed(reader) for reader, _ in slow))
        assert {tuple(one.statuses) for one in answers} == {(408,)}
        for _, writer in slow:
            writer.close()


async def test_failure_outside_of_the_handler_is_an_answer_too(listen: Listen) -> None:
    async def fail(request: Request) -> web.StreamResponse:
        raise ValueError("a bug")

    answers = await say(await listen(fail), ASK)
    assert isinstance(answers, Answers)
    assert (answers.statuses, answers.error["code"]) == ([500], "internal_error")


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/a/b/v1/x?y=%2F&z", "/v1/x?y=%2F&z"),
        ("/a/b/", "/"),
        ("/a/b//v1", "/v1"),
        ("/a/b/a/b/x", "/a/b/x"),
        ("/v1/x", "/v1/x"),
        ("/a/bc/x", "/a/bc/x"),
        ("/a", "/a"),
        ("/A/B/x", "/A/B/x"),
        ("http://x/a/b/v1", "/v1"),
    ],
)
async def test_prefix_of_a_proxy_in_front_is_taken_away(listen: Listen, target: str, seen: str) -> None:
    port = await listen(prefix="/a/b")
    answers = await say(port, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answers.text.endswith(f"\r\n\r\nGET {seen} x b''".encode())


async def test_prefix_alone_is_a_folder(listen: Listen) -> None:
    answers = await say(await listen(prefix="/a/b"), b"GET /a/b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answers.text.startswith(b"HTTP/1.1 308 ")
    assert b"\r\nLocation: /a/b/\r\n" in answers.text


async def test_body_comes_through_below_a_prefix(listen: Listen) -> None:
    ask = b"POST /a/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
    answers = await say(await listen(prefix="/a"), ask)
    assert answers.text.endswith(b"POST /x x b'hi'")
