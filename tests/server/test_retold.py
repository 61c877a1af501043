"""Answers that are told in another way, from an engine that sends exactly the bytes a test wants."""

import asyncio

import aiohttp
import pytest

from llamaproxy.core.response import BadResponse
from llamaproxy.core.routing import Dialect
from llamaproxy.server import retold
from llamaproxy.server.outlet import Outlet
from tests.server.splicing import SSE, chunk, says, spliced

JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Capitals:
    """An outlet that shouts, and says when it was over."""

    def through(self, data: bytes) -> bytes:
        if b"?" in data:
            raise BadResponse("it asks")
        return data.upper()

    def insert(self, content: bytes) -> bytes:
        return content

    def end(self) -> bytes:
        return b"END\n"


class Shouting:
    """A retelling."""

    content_type = "application/x-ndjson"
    comments = False

    def whole(self, status: int, content: bytes) -> bytes:
        return Capitals().through(content)

    def stream(self) -> Outlet:
        return Capitals()


SHOUTING = Shouting()


async def test_a_stream_is_told_as_it_comes() -> None:
    gate = asyncio.Event()
    async with spliced(says(SSE, chunk(b"one"), then=gate.wait), retelling=SHOUTING) as client:
        response = await client.get("/")
        assert (response.status, response.content_type) == (200, "application/x-ndjson")
        assert response.headers["x-own"] == "1"
        assert await response.content.readany() == b"ONE"
        gate.set()


async def test_it_has_its_own_end() -> None:
    async with spliced(says(SSE, chunk(b"one"), b"0\r\n\r\n"), retelling=SHOUTING) as client:
        assert await (await client.get("/")).read() == b"ONEEND\n"


@pytest.mark.parametrize("last", [b"", chunk(b"two?") + b"0\r\n\r\n"], ids=["breaks off", "cannot be told"])
async def test_one_without_an_end_has_an_error_in_its_place(last: bytes) -> None:
    async with spliced(says(SSE, chunk(b"one"), last), dialect=Dialect.OLLAMA, retelling=SHOUTING) as client:
        response = await client.get("/")
        got = await response.content.readuntil(b"\n")
        assert got.startswith(b"ONE") and b'{"error":"' in got and b"END" not in got
        with pytest.raises(aiohttp.ClientError):
            await response.content.read()


async def test_an_answer_in_one_piece_keeps_its_status() -> None:
    seen: list[bytes] = []
    answer = JSON.replace(b"200 OK", b"404 Not Found") + b"Content-Length: 5\r\n\r\nhello"
    async with spliced(says(answer), observe=seen.append, retelling=SHOUTING) as client:
        response = await client.get("/")
        assert (response.status, response.content_type) == (404, "application/json")
        assert await response.read() == b"HELLO"
        assert (response.headers["x-own"], response.headers["Content-Length"]) == ("1", "5")
    assert seen == [b"hello"], "whoever counts sees what the engine said"


async def test_one_that_breaks_off_never_began() -> None:
    async with spliced(says(JSON + b"Content-Length: 50\r\n\r\nhello"), retelling=SHOUTING) as client:
        assert await (await client.get("/")).text() == "UpstreamLost"


async def test_one_that_falls_silent_has_stalled() -> None:
    gate = asyncio.Event()
    engine = says(JSON + b"Content-Length: 50\r\n\r\nhello", then=gate.wait)
    async with spliced(engine, retelling=SHOUTING) as client:
        assert await (await client.get("/")).text() == "UpstreamStalled"
        gate.set()


async def test_one_that_makes_no_sense_is_the_engines_fault() -> None:
    async with spliced(says(JSON + b"Content-Length: 1\r\n\r\n?"), retelling=SHOUTING) as client:
        assert await (await client.get("/")).text() == "UpstreamError"


async def test_there_is_a_bound_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retold, "LARGEST", 4)
    gate = asyncio.Event()
    engine = says(JSON + b"Content-Length: 50\r\n\r\nhello", then=gate.wait)
    async with spliced(engine, retelling=SHOUTING) as client:
        assert await (await client.get("/")).text() == "UpstreamError"
        gate.set()


async def test_what_cannot_stream_is_told_before_it_begins() -> None:
    class Whole(Shouting):
        def stream(self) -> Outlet:
            raise BadResponse("it cannot")

    async with spliced(says(SSE, chunk(b"one"), b"0\r\n\r\n"), retelling=Whole()) as client:
        assert await (await client.get("/")).text() == "UpstreamError"
