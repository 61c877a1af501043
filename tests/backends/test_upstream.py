"""llamaproxy.backends.upstream: what goes over the wire, and how an exchange may end."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llamaproxy.backends.command import Address
from llamaproxy.backends.lost import UpstreamLost
from llamaproxy.backends.ports import free_port
from llamaproxy.backends.upstream import Upstream
from llamaproxy.core.response import BadResponse
from llamaproxy.tasks import spawn
from tests.backends.processes import PATIENCE, within
from tests.backends.sites import Keeper, keeper_elsewhere, self_signed

pytestmark = pytest.mark.timeout(30)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"


class Engine:
    """Writes down what it is sent, answers with the same bytes every time, and waits for its client to leave."""

    def __init__(self, answer: bytes, hang_up: bool) -> None:
        self._answer, self._hang_up = answer, hang_up
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self.requests: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lengths = [
                    line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
                ]
                self.requests.append(head + await reader.readexactly(int(lengths[0]) if lengths else 0))
                self.asked.set()
                writer.write(self._answer)
                if self._hang_up:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.left.set()

    @property
    def request(self) -> bytes:
        [only] = self.requests
        return only


@asynccontextmanager
async def exchange_with(
    answer: bytes, address: Address, *, hang_up: bool = False
) -> AsyncIterator[tuple[Upstream, Engine]]:
    engine = Engine(answer, hang_up)
    if address.socket:
        server = await asyncio.start_unix_server(engine.serve, str(address.socket))
    else:
        server = await asyncio.start_server(engine.serve, "127.0.0.1", address.port)
    upstream = Upstream(address)
    try:
        yield upstream, engine
    finally:
        await upstream.close()
        if engine.connections:
            await within(PATIENCE, engine.left.wait())
        server.close()


@pytest.fixture
def address(short_path: Path) -> Address:
    return Address(socket=short_path / "engine.sock")


async def get(upstream: Upstream, target: str = "/") -> bytes:
    async with upstream.exchange("GET", target, b"", None) as response:
        return await response.read()


class TestRequest:
    async def test_it_is_what_it_was_told_and_what_http_needs(self, address: Address) -> None:
        async with exchange_with(OK, address) as (upstream, engine):
            fields = b"Content-Type: application/json\r\nX-Twice: 1\r\nX-Twice: 2\r\n"
            async with upstream.exchange("POST", "/v1/chat/completions", fields, b'{"a": 1}') as response:
                assert (response.status, await response.read()) == (200, b"ok")
        assert engine.request == (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b'X-Twice: 1\r\nX-Twice: 2\r\nContent-Length: 8\r\n\r\n{"a": 1}'
        )

    @pytest.mark.parametrize(
        "target", ["/x%2Fy%20z", "/a?b=%20c&d=e+f&&g", "//double//slash", "/a/../b/./c", "/caf%C3%A9?q=%zz"]
    )
    async def test_the_target_goes_out_as_it_is_spelled(self, address: Address, target: str) -> None:
        async with exchange_with(OK, address) as (upstream, engine):
            await get(upstream, target)
        assert engine.request.split(b" ")[1] == target.encode()

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_no_body_is_no_body(self, address: Address, method: str) -> None:
        async with exchange_with(EMPTY, address) as (upstream, engine), upstream.exchange(method, "/", b"", None):
            pass
        assert engine.request.startswith(method.encode())
        assert b"content" not in engine.request.lower()

    @pytest.mark.parametrize("size", [1, 2**20, 2**20 + 1, 5 * 2**20])
    async def test_a_body_of_any_size_arrives_whole(self, address: Address, size: int) -> None:
        body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        async with (
            exchange_with(OK, address) as (upstream, engine),
            upstream.exchange("POST", "/", b"", body) as response,
        ):
            assert response.status == 200
        assert engine.request.partition(b"\r\n\r\n")[2] == body

    async def test_a_tcp_engine_gets_the_key_of_its_spawn(self) -> None:
        async with exchange_with(OK, Address(port=free_port(), key="k3y")) as (upstream, engine):
            await get(upstream)
        assert b"\r\nAuthorization: Bearer k3y\r\n" in engine.request

    async def test_cookies_are_not_kept(self, address: Address) -> None:
        answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
        async with exchange_with(answer, address) as (upstream, engine):
            await get(upstream)
            await get(upstream)
        assert b"cookie" not in engine.requests[1].lower()

    async def test_every_exchange_has_a_connection_of_its_own_and_they_are_not_counted(self, address: Address) -> None:
        async with exchange_with(ENDLESS, address) as (upstream, engine):
            exchanges = [upstream.exchange("GET", "/", b"", None) for _ in range(120)]
            for exchange in exchanges:
                await exchange.__aenter__()
            assert engine.connections == 120
            for exchange in exchanges:
                await exchange.__aexit__(None, None, None)


class TestResponse:
    async def test_what_is_compressed_stays_so(self, address: Address) -> None:
        body = gzip.compress(b"hello")
        answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        async with exchange_with(answer, address) as (upstream, _):
            assert await get(upstream) == body

    async def test_a_redirect_is_an_answer(self, address: Address) -> None:
        answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
        async with (
            exchange_with(answer, address) as (upstream, engine),
            upstream.exchange("GET", "/", b"", None) as head,
        ):
            assert head.status == 302
        assert len(engine.requests) == 1

    async def test_its_head_is_here_before_its_body(self, address: Address) -> None:
        async with exchange_with(ENDLESS, address) as (upstream, _), upstream.exchange("GET", "/", b"", None) as head:
            received: list[bytes] = []
            await head.begin()
            head.relay(received.append)
            assert received == [b"5\r\nfirst\r\n"]


class TestLeaving:
    """The engine frees a slot when its client has gone: every way out of an exchange closes the connection."""

    async def test_early(self, address: Address) -> None:
        async with exchange_with(ENDLESS, address) as (upstream, engine):
            async with upstream.exchange("GET", "/", b"", None):
                pass
            await within(1, engine.left.wait())

    async def test_by_an_exception(self, address: Address) -> None:
        async with exchange_with(ENDLESS, address) as (upstream, engine):
            with pytest.raises(LookupError):
                async with upstream.exchange("GET", "/", b"", None):
                    raise LookupError
            await within(1, engine.left.wait())

    @pytest.mark.parametrize("answer", [b"", ENDLESS])
    async def test_by_cancellation(self, address: Address, answer: bytes) -> None:
        async with exchange_with(answer, address) as (upstream, engine):
            task = spawn(get(upstream), name="get")
            await within(PATIENCE, engine.asked.wait())
            task.cancel()
            await within(1, engine.left.wait())
            assert task.cancelled()


class TestLoss:
    """Before the head is complete nothing has been said to the client, and the request can be tried again."""

    async def test_nobody_listens(self, short_path: Path) -> None:
        for address in (Address(socket=short_path / "none.sock"), Address(port=free_port())):
            upstream = Upstream(address)
            with pytest.raises(UpstreamLost, match=r"\S"):
                await get(upstream)
            assert await upstream.health() is None
            await upstream.close()

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
            b"NONSENSE 2OO\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX-Nul: a\0b\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        ],
    )
    async def test_the_head_never_comes_or_is_none(self, address: Address, answer: bytes) -> None:
        async with exchange_with(answer, address, hang_up=True) as (upstream, _):
            with pytest.raises(UpstreamLost, match=r"\S"):
                await within(PATIENCE, get(upstream))

    async def test_a_body_that_breaks_off_is_another_matter(self, address: Address) -> None:
        async with (
            exchange_with(ENDLESS, address, hang_up=True) as (upstream, _),
            upstream.exchange("GET", "/", b"", None) as answer,
        ):
            with pytest.raises(BadResponse):
                await within(PATIENCE, answer.relay(lambda data: None))


class TestClose:
    """An engine that is serving does not exit while its clients are there."""

    async def test_who_waits_for_the_head_is_told(self, address: Address) -> None:
        async with exchange_with(b"", address) as (upstream, engine):
            task = spawn(get(upstream), name="get")
            await within(PATIENCE, engine.asked.wait())
            await upstream.close()
            await asyncio.wait({task}, timeout=1)
            assert isinstance(task.exception(), UpstreamLost)
            await within(1, engine.left.wait())

    async def test_who_reads_the_body_is_told(self, address: Address) -> None:
        async with exchange_with(ENDLESS, address) as (upstream, engine):
            task = spawn(get(upstream), name="get")
            await within(PATIENCE, engine.asked.wait())
            async with upstream.exchange("GET", "/", b"", None) as response:
                await upstream.close()
                with pytest.raises(UpstreamLost):
                    await within(1, response.read())
            await asyncio.wait({task}, timeout=1)
            assert isinstance(task.exception(), UpstreamLost)
            await within(1, engine.left.wait())

    async def test_nothing_new_begins(self, address: Address) -> None:
        async with exchange_with(OK, address) as (upstream, engine):
            await upstream.close()
            with pytest.raises(UpstreamLost, match="the backend is being stopped"):
                await get(upstream)
            assert await upstream.health() is None
            assert engine.connections == 0

    async def test_it_may_be_said_again_at_any_moment(self, address: Address) -> None:
        async with exchange_with(b"", address) as (upstream, engine):
            task = spawn(get(upstream), name="get")
            await within(PATIENCE, engine.asked.wait())

            async def close_after(turns: int) -> None:
                for _ in range(turns):
                    await asyncio.sleep(0)
                await upstream.close()

            await asyncio.gather(*map(close_after, range(10)))
            await asyncio.wait({task}, timeout=1)
            assert isinstance(task.exception(), UpstreamLost)


class TestElsewhere:
    """A server of somebody else's: reached over a network, and as it was configured."""

    async def test_everything_goes_below_its_address_with_its_key(self) -> None:
        port = free_port()
        engine = Engine(OK, hang_up=False)
        server = await asyncio.start_server(engine.serve, "127.0.0.1", port)
        upstream = Upstream(Address(url=f"http://127.0.0.1:{port}/team/a", key="k3y"))
        await get(upstream, "/v1/models?x=%20")
        await upstream.close()
        server.close()
        assert engine.request.startswith(
            b"GET /team/a/v1/models?x=%%20 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
            b"Authorization: Bearer k3y\r\nX-Api-Key: k3y\r\n" % port
        )

    async def test_connections_are_kept(self) -> None:
        async with keeper_elsewhere() as (upstream, keeper):
            for _ in range(3):
                assert await get(upstream) == b"ok"
            assert (keeper.connections, keeper.requests) == (1, 3)

    async def test_a_request_that_meets_the_close_of_a_kept_one_is_sent_again(self) -> None:
        async with keeper_elsewhere() as (upstream, keeper):
            await asyncio.gather(*(get(upstream) for _ in range(2)))
            keeper.closing = True
            async with upstream.exchange("POST", "/", b"", b"{}") as response:
                assert await response.read() == b"ok"
            assert keeper.requests > 3, "it did meet one"

    async def test_a_new_connection_that_is_closed_is_a_loss(self) -> None:
        async with keeper_elsewhere() as (upstream, keeper):
            keeper.answering = False
            with pytest.raises(UpstreamLost):
                async with upstream.exchange("POST", "/", b"", b"{}"):
                    pass
            assert keeper.requests == 1

    async def test_no_proxy_of_the_environment_comes_between(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for variable in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(variable, "http://127.0.0.1:1")
        async with keeper_elsewhere() as (upstream, _):
            assert await get(upstream) == b"ok"

    async def test_a_certificate_that_nobody_vouches_for_is_refused(self, short_path: Path) -> None:
        context = self_signed(short_path)
        keeper = Keeper()
        server = await asyncio.start_server(keeper.serve, "127.0.0.1", port := free_port(), ssl=context)
        upstream = Upstream(Address(url=f"https://127.0.0.1:{port}"))
        with pytest.raises(UpstreamLost, match="certificate verify failed"):
            await get(upstream)
        await upstream.close()
        server.close()
        assert keeper.requests == 0


class TestRetire:
    """A server that is lost may still be answering somebody."""

    async def test_a_body_may_be_read_to_its_end_and_nothing_new_begins(self, address: Address) -> None:
        async with exchange_with(ENDLESS, address) as (upstream, _):
            async with upstream.exchange("GET", "/", b"", None) as head:
                await upstream.retire()
                await head.begin()
                with pytest.raises(UpstreamLost):
                    await get(upstream)
            assert upstream.closed, "the last one closes the door"

    async def test_who_waits_for_a_head_is_told(self, address: Address) -> None:
        async with exchange_with(b"", address) as (upstream, engine):
            task = spawn(get(upstream), name="get")
            await within(PATIENCE, engine.asked.wait())
            await upstream.retire()
            await asyncio.wait({task}, timeout=1)
            assert isinstance(task.exception(), UpstreamLost)
            assert upstream.closed


class TestHealth:
    @pytest.mark.parametrize("status", [200, 503, 404])
    async def test_it_is_the_status_of_the_engines_own_answer(self, address: Address, status: int) -> None:
        answer = b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status
        async with exchange_with(answer, address) as (upstream, engine):
            assert await upstream.health() == status
        assert engine.request.startswith(b"GET /health HTTP/1.1\r\n")

    async def test_it_does_not_wait_for_the_body(self, address: Address) -> None:
        async with exchange_with(ENDLESS, address) as (upstream, _):
            assert await asyncio.wait_for(upstream.health(), PATIENCE) == 200

    async def test_it_is_none_where_the_answer_is_none(self, address: Address) -> None:
        async with exchange_with(b"", address, hang_up=True) as (upstream, _):
            assert await upstream.health() is None


class TestAsk:
    """The gateway's own short questions."""

    async def test_status_and_body_come_back(self, address: Address) -> None:
        async with exchange_with(OK, address) as (upstream, engine):
            assert await upstream.ask("POST", "/slots/0?action=save", b'{"filename": "x"}') == (200, b"ok")
        assert b"Content-Type: application/json" in engine.request

    async def test_an_answer_that_breaks_off_is_a_loss(self, address: Address) -> None:
        async with exchange_with(ENDLESS, address, hang_up=True) as (upstream, _):
            with pytest.raises(UpstreamLost):
                await upstream.ask("GET", "/slots")

    async def test_one_without_end_is_not_read_for_ever(self, address: Address) -> None:
        flood = ENDLESS + b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        flood += (b"100000\r\n" + b"x" * 0x100000 + b"\r\n") * 9
        async with exchange_with(flood, address) as (upstream, _):
            with pytest.raises(UpstreamLost):
                await asyncio.wait_for(upstream.ask("GET", "/slots"), PATIENCE)
