"""Bodies are read whole, or not at all."""

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from llamaproxy.errors import GatewayError
from llamaproxy.server import body

MOST = 100_000


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        try:
            return web.Response(text=str(len(await body.read(request, MOST, 0.3))))
        except GatewayError as error:
            return web.Response(text=error.code)

    app = web.Application()
    app.router.add_post("/", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("/"))


async def told(url: str, data: object, **headers: str) -> str:
    async with ClientSession() as session, session.post(url, data=data, headers=headers) as response:
        return await response.text()


async def pieces(count: int, pause: float = 0) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * 1000
        await asyncio.sleep(pause)


async def test_whole_body_with_and_without_a_length(url: str) -> None:
    assert await told(url, b"x" * MOST) == str(MOST)
    assert await told(url, pieces(100)) == str(MOST)
    assert await told(url, b"") == "0"


async def test_larger_one_is_refused_by_its_length_or_while_it_comes(url: str) -> None:
    assert await told(url, b"x" * (MOST + 1)) == "request_too_large"
    assert await told(url, pieces(101)) == "request_too_large"


async def test_small_one_that_grows_is_a_large_one(url: str) -> None:
    bomb = gzip.compress(b"x" * (MOST + 1))
    assert len(bomb) < 1000
    assert await told(url, bomb, **{"Content-Encoding": "gzip"}) == "request_too_large"


async def test_one_that_takes_too_long(url: str) -> None:
    assert await told(url, pieces(50, pause=0.02)) == "request_timeout"


async def test_one_that_cannot_be_decoded(url: str) -> None:
    assert await told(url, b"no gzip at all", **{"Content-Encoding": "gzip"}) == "invalid_request"
