"""The fake engine as an HTTP client of another make sees it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench.engine import KeepAlive, serve

CHAT = "/v1/chat/completions"


@asynccontextmanager
async def session(folder: Path, keep_alive: KeepAlive | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    path = str(folder / "engine.sock")
    server = await serve(path, 0, keep_alive or KeepAlive(0, 0))
    async with aiohttp.ClientSession("http://engine", connector=aiohttp.UnixConnector(path)) as client:
        yield client
    server.close()
    await server.wait_closed()


async def events(client: aiohttp.ClientSession, body: dict[str, Any]) -> list[str]:
    async with client.post(CHAT, json={"stream": True, **body}) as response:
        assert response.content_type == "text/event-stream"
        text = await response.text()
    return [line.removeprefix("data: ") for line in text.split("\n\n") if line]


@pytest.mark.parametrize(("path", "answer"), [("/health", {"status": "ok"}), ("/slots", [])])
async def test_it_is_asked_how_it_is(tmp_path: Path, path: str, answer: object) -> None:
    async with session(tmp_path) as client, client.get(path) as response:
        assert (response.status, await response.json()) == (200, answer)


async def test_a_unary_answer_has_about_400_bytes_and_a_length(tmp_path: Path) -> None:
    async with session(tmp_path) as client, client.post(CHAT, json={"model": "m"}) as response:
        body = await response.read()
        assert response.headers["Content-Length"] == str(len(body))
    assert 350 <= len(body) <= 450
    assert json.loads(body)["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize("pace", [0, 1])
async def test_a_stream_has_the_chunks_that_were_asked_for_and_then_its_timings(tmp_path: Path, pace: int) -> None:
    async with session(tmp_path) as client:
        *tokens, last, done = await events(client, {"max_tokens": 7, "pace_ms": pace})
    assert len(tokens) == 7
    assert all(json.loads(token)["choices"][0]["delta"] for token in tokens)
    assert json.loads(last)["timings"]["prompt_n"] == 12
    assert done == "[DONE]"


async def test_counts_of_every_token_are_for_who_asks_for_them(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        for asked in (False, True):
            first, *_ = await events(client, {"max_tokens": 2, "timings_per_token": asked})
            assert ("timings" in json.loads(first)) is asked


async def test_a_stream_that_is_long_comes_whole(tmp_path: Path) -> None:
    async with session(tmp_path) as client, client.post(CHAT, json={"stream": True, "max_tokens": 50_000}) as response:
        first = await response.content.readany()
        text = first + await response.read()
    assert text.count(b"data: ") == 50_002


async def test_the_settings_are_found_at_either_end_of_a_large_body(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        assert len(await events(client, {"max_tokens": 3, "prompt": "x" * 900_000})) == 5
        assert len(await events(client, {"prompt": "x" * 900_000, "max_tokens": 3})) == 5


async def test_two_requests_may_come_at_once(tmp_path: Path) -> None:
    server = await serve(str(tmp_path / "s"), 0, KeepAlive(0, 0))
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    body = b'{"stream":true,"max_tokens":1}'
    stream = b"POST /x HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    writer.write(stream + b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
    answers = await reader.read(-1)
    writer.close()
    server.close()
    assert answers.index(b"[DONE]") < answers.index(b'{"status":"ok"}')


async def test_a_connection_ends_after_its_last_request(tmp_path: Path) -> None:
    async with session(tmp_path, KeepAlive(idle=5, requests=2)) as client:
        said = []
        for _ in range(3):
            async with client.get("/health") as response:
                said.append(response.headers.get("Connection"))
    assert said == [None, "close", None]


async def test_a_connection_at_rest_is_closed(tmp_path: Path) -> None:
    server = await serve(str(tmp_path / "s"), 0, KeepAlive(idle=0.01, requests=100))
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    assert await reader.read(-1) == b""
    writer.close()
    server.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"GET /" + b"x" * 70_000, b"431"),
        (b"GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n", b"404"),
    ],
)
async def test_what_it_cannot_do_is_told(tmp_path: Path, request_: bytes, status: bytes) -> None:
    server = await serve(str(tmp_path / "s"), 0, KeepAlive(0, 0))
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    writer.write(request_)
    assert (await reader.read(-1)).split(b" ")[1] == status
    writer.close()
    server.close()
