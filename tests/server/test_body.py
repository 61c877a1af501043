"""Bodies are read whole, or not at all."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import TransferEncodingError
from aiohttp.test_utils import make_mocked_request

from llamaproxy.errors import GatewayError, InvalidRequest
from llamaproxy.server import body
from llamaproxy.server.guard import fingerprint
from llamaproxy.server.inbound import Connection, Inbound
from llamaproxy.server.incoming import Request
from llamaproxy.server.parting import close_after
from llamaproxy.tasks import spawn
from tests.gateway import PATIENCE
from tests.server.conftest import InboundServer, Serve

MOST = 100_000


@pytest.fixture
def bodies() -> list[StreamReader]:
    """Every body that has come."""
    return []


@pytest.fixture
async def url(bodies: list[StreamReader]) -> AsyncIterator[str]:
    async def said(request: Request) -> str:
        if "X-Unread" in request.headers:
            return "unread"
        try:
            return str(len(await body.read(request, MOST, float(request.headers.get("X-Patience", PATIENCE)))))
        except GatewayError as error:
            return f"{error.code}: {error.message}" if "X-Tell" in request.headers else error.code

    async def answer(request: Request) -> web.Response:
        bodies.append(request.unread)
        response = web.Response(text=await said(request))
        if not request.complete:
            await close_after(request, response)
        return response

    async with InboundServer(Inbound(answer, lambda: 10.0)) as server:
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


async def test_a_bomb_is_refused_and_the_rest_of_it_never_unfolds(url: str, bodies: list[StreamReader]) -> None:
    """Nor after the answer, while the client is still listened to."""
    bomb = gzip.compress(bytes(1 << 24))
    assert await told(url, bomb, **{"Content-Encoding": "gzip"}) == "request_too_large"
    assert await told(url, bomb, **{"Content-Encoding": "gzip", "X-Unread": "1"}) == "unread"
    assert await told(url, b"x") == "1"
    assert max(content.total_bytes for content in bodies) < 4_000_000


@pytest.mark.parametrize("coding", ["compress", "gzip, gzip", "x" * 1000])
async def test_codings_that_nobody_undoes_are_no_bodies(url: str, coding: str) -> None:
    assert await told(url, b"{}", **{"Content-Encoding": coding}) == "unsupported_media_type"


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
async def test_no_coding_at_all(url: str, coding: str) -> None:
    assert await told(url, b"{}", **{"Content-Encoding": coding}) == "2"


async def test_one_that_takes_too_long(url: str) -> None:
    assert await told(url, pieces(50, pause=0.02), **{"X-Patience": "0.1"}) == "request_timeout"


async def test_one_that_cannot_be_decoded(url: str) -> None:
    said = "invalid_request: the body is not what its Content-Encoding says"
    assert await told(url, b"no gzip at all", **{"Content-Encoding": "gzip", "X-Tell": "1"}) == said


async def test_a_large_body_takes_its_own_size_and_little_more() -> None:
    """Parts and their sum at once would be twice as much."""
    size, part = 8_000_000, b"x" * 50_000
    protocol = BaseProtocol(asyncio.get_running_loop())
    protocol.connection_made(asyncio.Transport())
    content = StreamReader(protocol, limit=2**16)
    request = make_mocked_request("POST", "/", payload=content)

    async def arrive() -> None:
        for _ in range(size // len(part)):
            content.feed_data(bytes(bytearray(part)))
            await asyncio.sleep(0)
        content.feed_eof()

    arriving = spawn(arrive(), name="arrive")
    tracemalloc.start()
    try:
        assert len(await body.read(request, size, 10)) == size
        assert tracemalloc.get_traced_memory()[1] < 1.3 * size
    finally:
        tracemalloc.stop()
    await arriving


async def test_a_bomb_at_the_door_does_not_unfold(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who has no key may keep the gateway busy."""
    client = await serve(keys={"alice": {"sha256": fingerprint("lp-key")}})
    left: list[StreamReader] = []
    begin = Connection.begin

    def beginning(connection: Connection, request: Request, malformed: bool) -> None:
        left.append(request.unread)
        begin(connection, request, malformed)

    monkeypatch.setattr(Connection, "begin", beginning)
    bomb = gzip.compress(bytes(1 << 24))
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert (await client.post("/v1/chat/completions", data=bomb, headers=headers)).status == 401
    assert (await client.get("/health")).status == 200
    assert left[0].total_bytes < 4_000_000


async def test_what_the_parser_in_python_cannot_read_is_the_clients_fault() -> None:
    """Else its row would say that the engine had failed."""
    loop = asyncio.get_running_loop()
    content = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
    content.set_exception(TransferEncodingError("zz"))
    with pytest.raises(InvalidRequest, match="cannot be decoded"):
        await body.read(make_mocked_request("POST", "/", payload=content), MOST, 1.0)
