"""llamaproxy.server.live: pages that come, are told what changes, and go."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestClient

from llamaproxy import __version__
from llamaproxy.config import Config
from llamaproxy.errors import GatewayError
from llamaproxy.models.catalogue import Catalogue
from llamaproxy.server import live
from llamaproxy.server.answers import json_response
from llamaproxy.server.current import Current
from llamaproxy.server.guard import fingerprint
from llamaproxy.server.inbound import Inbound
from llamaproxy.server.incoming import Request
from llamaproxy.server.live import Live
from llamaproxy.server.live_events import Events
from llamaproxy.server.live_topics import Change, Topic
from llamaproxy.server.routes import Routes
from tests.gateway import PATIENCE, until
from tests.server.conftest import InboundServer, Serve
from tests.server.raw import connected
from tests.server.test_upgrade import HANDSHAKE
from tests.server.watching import Watcher, watching

Client = TestClient[Any, Any]


class Counter(Topic):
    """Changes as often as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.waiting = 0, list[int]()
        self.history: list[str] = []

    def begin(self) -> None:
        self.history.append("begin")

    def end(self) -> None:
        self.history.append("end")

    def count(self, size: int = 1) -> None:
        self.value += 1
        self.waiting.append(size)

    def snapshot(self) -> Any:
        return self.value

    def changes(self) -> Iterator[Change]:
        sizes, self.waiting = self.waiting, []
        for size in sizes:
            yield "counted", "x" * size


class Gateway:
    """Nothing but pages."""

    def __init__(self) -> None:
        self.one, self.other = Counter(), Counter()
        self.current = Current(Config(), Catalogue([]))
        topics: dict[str, Topic] = {"one": self.one, "other": self.other}
        self.live = Live(self.current, Events(Routes([])), topics)
        self.client: Client

    async def handle(self, request: Request) -> web.StreamResponse:
        try:
            return await self.live.serve(request)
        except GatewayError as error:
            return json_response(error.code, error.status)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    made = Gateway()
    async with TestClient[Any, Any](InboundServer(Inbound(made.handle, lambda: 10.0))) as made.client:
        yield made


async def test_hello_comes_first(gateway: Gateway) -> None:
    async with watching(gateway.client) as page:
        hello = await page.next("hello")
        assert (hello["type"], hello["data"]["version"], hello["data"]["protocol"]) == ("broadcast", __version__, 1)
        assert hello["data"]["topics"] == ["one", "other"]
        assert hello["data"]["started"] <= hello["timestamp"]


async def test_snapshot_and_then_changes_without_a_gap(gateway: Gateway) -> None:
    async with watching(gateway.client) as page:
        gateway.one.value = 7
        assert await page.subscribe("one") == {"seq": {"one": 0}, "snapshot": {"one": 7}}
        for expected in (1, 2, 3):
            gateway.one.count()
            gateway.live.flush()
            told = await page.next("counted")
            assert (told["topic"], told["seq"], told["data"]) == ("one", expected, "x")
        async with watching(gateway.client) as late:
            assert (await late.subscribe("one"))["seq"] == {"one": 3}


async def test_changes_come_by_themselves(gateway: Gateway) -> None:
    async with watching(gateway.client) as page:
        await page.subscribe("one")
        gateway.one.count()
        assert (await page.next("counted"))["seq"] == 1


async def test_a_page_is_told_what_it_watches_and_no_more(gateway: Gateway) -> None:
    async with watching(gateway.client) as page, watching(gateway.client) as another:
        await another.subscribe("one")
        await page.subscribe("one")
        await page.subscribe("other")
        gateway.one.count()
        gateway.other.count()
        gateway.live.flush()
        assert (await page.ask("ping"))["success"]
        assert [told["topic"] for told in page.told if told["event"] == "counted"] == ["other"]


def flushing(gateway: Gateway) -> bool:
    return gateway.live._flushing is not None


async def test_what_nobody_watches_costs_nothing(gateway: Gateway) -> None:
    async with watching(gateway.client) as page:
        await page.subscribe()
        assert not flushing(gateway)
        async with watching(gateway.client) as other:
            await page.subscribe("one")
            await other.subscribe("one")
            assert flushing(gateway)
            await page.subscribe()
        await until_gone(gateway, 1)
        assert gateway.one.history == ["begin", "end"]
        assert gateway.other.history == []
    await until(lambda: not flushing(gateway), "no timer without pages")


async def until_gone(gateway: Gateway, left: int) -> None:
    await until(lambda: gateway.live.pages <= left, f"no more than {left} pages")


@pytest.mark.parametrize("topics", [None, "one", ["three"], [1], [["one"]], {}, [None]])
async def test_topics_that_are_none(gateway: Gateway, topics: Any) -> None:
    async with watching(gateway.client) as page:
        answer = await page.ask("subscribe", topics=topics)
        assert (answer["success"], answer["error"]["code"]) == (False, "invalid_request")


async def test_what_is_no_request_is_answered_and_the_page_stays(gateway: Gateway) -> None:
    async with watching(gateway.client) as page:
        await page.socket.send_str("nonsense")
        assert (await page.send({"type": "request", "event": "ping", "requestId": "x"}))["error"]["code"] == (
            "invalid_request"
        )
        assert (await page.send({"type": "request", "event": "ping"}))["requestId"] == "x"
        assert (await page.ask("no:such"))["requestId"] == "r2"
        assert (await page._receive())["error"]["code"] == "unknown_event"


async def test_frame_that_is_too_large_ends_it(gateway: Gateway) -> None:
    async with watching(gateway.client) as page:
        await page.socket.send_str("x" * 300_000)
        await page.next("hello")
        assert (await page.socket.receive()).type is WSMsgType.CLOSE
        assert page.socket.close_code == 1009


async def test_there_are_only_so_many(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_PAGES", 2)
    async with watching(gateway.client), watching(gateway.client):
        assert gateway.live.pages == 2
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await gateway.client.ws_connect("/llamaproxws")
        assert refused.value.status == 503
    await until_gone(gateway, 1)
    async with watching(gateway.client) as page:
        assert await page.next("hello")


async def test_plain_requests_are_told_what_this_is(gateway: Gateway) -> None:
    assert (await gateway.client.get("/llamaproxws")).status == 400


async def test_shutdown_says_so_and_lets_nobody_in(gateway: Gateway) -> None:
    async with watching(gateway.client) as page, watching(gateway.client) as other:
        await page.next("hello")
        await other.next("hello")
        closing = asyncio.gather(page.socket.receive(), other.socket.receive())
        await gateway.live.close()
        await closing
        assert (page.socket.close_code, other.socket.close_code) == (1001, 1001)
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await gateway.client.ws_connect("/llamaproxws")


async def test_page_that_does_not_read_loses_messages_and_delays_nobody(gateway: Gateway) -> None:
    async with connected(gateway.client.port) as (reader, writer), watching(gateway.client) as page:
        writer.write(
            b"GET /llamaproxws HTTP/1.1\r\n"
            + HANDSHAKE
            + frame(b'{"type":"request","event":"subscribe","data":{"topics":["one"]}}')
        )
        await reader.readuntil(b'"snapshot"')
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a ReadTransport, too
        await page.subscribe("one")
        for seq in range(1, 201):
            gateway.one.count(size=100_000)
            gateway.live.flush()
            assert (await page.next("counted"))["seq"] == seq
        assert gateway.live.dropped > 50
        writer.transport.abort()


KEYS = {"boss": {"sha256": fingerprint("lp-boss"), "admin": True}, "user": {"sha256": fingerprint("lp-user")}}


def frame(text: bytes) -> bytes:
    """A text frame of a client, masked with zeros."""
    assert len(text) < 126
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text


async def test_fault_of_a_topic_sends_pages_away_to_come_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with watching(gateway.client) as page:
        await page.subscribe("one")
        monkeypatch.setattr(gateway.one, "waiting", None)
        await page.next("hello")
        async with asyncio.timeout(PATIENCE):
            assert (await page.socket.receive()).type is not WSMsgType.TEXT
    assert "they are sent away" in caplog.text


class TestWholeGateway:
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": "Bearer lp-user"},
            {"Authorization": "Bearer lp-wrong"},
            {"Authorization": "Bearer lp-boss", "Origin": "http://evil.com"},
            {"Authorization": "Bearer lp-boss", "Host": "evil.com"},
        ],
    )
    async def test_who_may_not_administer_is_not_let_in(self, serve: Serve, headers: dict[str, str]) -> None:
        client = await serve(keys=KEYS)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect("/llamaproxws", headers=headers)
        assert refused.value.status in (401, 403)

    async def test_key_that_is_revoked_ends_it(self, serve: Serve) -> None:
        client = await serve(keys=KEYS)
        boss = {"Authorization": "Bearer lp-boss"}
        made = await (await client.post("/api/keys", json={"name": "new", "admin": True}, headers=boss)).json()
        async with watching(client, Authorization=f"Bearer {made['key']}") as page:
            await page.subscribe("config")
            await client.delete("/api/keys/new", headers=boss)
            async with asyncio.timeout(PATIENCE):
                while (message := await page.socket.receive()).type is WSMsgType.TEXT:
                    pass
            assert (message.type, page.socket.close_code) == (WSMsgType.CLOSE, 1008)

    async def test_below_a_prefix_that_is_taken_away_or_not(self, serve: Serve) -> None:
        client = await serve(server={"base_path": "/a/b"})
        for path in ("/llamaproxws", "/a/b/llamaproxws"):
            async with client.ws_connect(path) as socket:
                assert await Watcher(socket).next("hello")
