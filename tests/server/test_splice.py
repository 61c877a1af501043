"""One exchange, against an engine that sends exactly the bytes a test wants."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from llamaproxy.core.routing import Dialect
from llamaproxy.errors import RequestCancelled
from llamaproxy.server.flights import Flights
from llamaproxy.server.splice import Outcome
from llamaproxy.telemetry.ledger import RequestRow
from tests.gateway import PATIENCE
from tests.server.splicing import SSE, Script, chunk, says, slow_reader, spliced, takes_little

pytestmark = pytest.mark.usefixtures("known")


async def test_head_and_body_pass_and_hop_by_hop_fields_do_not() -> None:
    head = b"HTTP/1.1 201 Made\r\nX-Engine: a\r\nX-Engine: b\r\nKeep-Alive: 5\r\nConnection: x-gone\r\nX-Gone: 1\r\n"
    async with spliced(says(head + b"Access-Control-Allow-Origin: *\r\nContent-Length: 5\r\n\r\nhello")) as client:
        response = await client.get("/")
        assert (response.status, response.reason, await response.read()) == (201, "Made", b"hello")
        assert response.headers.getall("X-Engine") == ["a", "b"]
        assert response.headers["x-own"] == "1"
        assert not {"X-Gone", "Keep-Alive", "Access-Control-Allow-Origin"} & set(response.headers)


LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize("parts", [(LONG + b"hello",), (LONG, b"hello"), (LONG + b"he", b"llo")])
async def test_an_answer_with_a_length_is_the_same_however_it_comes(parts: tuple[bytes, ...]) -> None:
    seen: list[bytes] = []
    async with spliced(says(*parts), observe=seen.append) as client:
        response = await client.get("/")
        assert await response.read() == b"".join(seen) == b"hello"


async def test_an_answer_that_an_operator_ends_while_its_client_reads_has_its_own_status() -> None:
    outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
    flights, said = Flights(), asyncio.Event()

    async def say() -> None:
        said.set()
        await asyncio.sleep(PATIENCE)

    def begins(request: web.Request) -> None:
        takes_little(request)
        flights.begin(RequestRow("r", "chat", "openai", ""), request)

    script = says(b"HTTP/1.1 200 OK\r\nContent-Length: 150000\r\n\r\n" + 150_000 * b"x", then=say)
    async with spliced(script, outcomes=outcomes, begins=begins) as client, slow_reader(client) as reader:
        await asyncio.wait_for(said.wait(), PATIENCE)
        await reader.readuntil(b"\r\n\r\n")
        assert outcomes.empty() and flights.cancel("r") == 1
        outcome = await asyncio.wait_for(outcomes.get(), PATIENCE)
        assert outcome.status == 200 and isinstance(outcome.broken, RequestCancelled)


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


@pytest.mark.parametrize("parts", [(SSE, chunk(b"data: 1\n\n"), b"0\r\n\r\n"), (LONG + b"hello",)])
async def test_client_that_leaves_in_the_moment_of_the_answer_is_just_gone(parts: tuple[bytes, ...]) -> None:
    ends: asyncio.Queue[str] = asyncio.Queue()
    async with spliced(says(*parts), ends=ends) as client:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.get("/")
        assert await asyncio.wait_for(ends.get(), PATIENCE) == "ClientGone"
