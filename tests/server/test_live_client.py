"""llamaproxy.server.live_client: one page's WebSocket, and the page that takes nothing."""

import asyncio

import pytest
from aiohttp import WSMsgType

from llamaproxy.server import live_client
from tests.gateway import PATIENCE
from tests.server.raw import connected
from tests.server.test_live import Gateway, frame, gateway, until_gone
from tests.server.test_upgrade import HANDSHAKE
from tests.server.watching import watching

__all__ = ["gateway"]
SUBSCRIBE = b'{"type":"request","event":"subscribe","data":{"topics":["one"]}}'


async def test_answers_come_in_order_and_after_what_waited(gateway: Gateway) -> None:
    async with watching(gateway.client) as page:
        await page.subscribe("one")
        gateway.one.count()
        gateway.live.flush()
        await page.ask("ping")
        assert [told["event"] for told in page.told] == ["hello", "counted"]


async def test_page_that_takes_nothing_is_cut_off(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_client, "PATIENCE", 0.3)
    async with connected(gateway.client.port) as (reader, writer):
        writer.write(b"GET /llamaproxws HTTP/1.1\r\n" + HANDSHAKE + frame(SUBSCRIBE))
        await reader.readuntil(b'"snapshot"')
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a ReadTransport, too
        for _ in range(200):
            gateway.one.count(size=100_000)
            gateway.live.flush()
            await asyncio.sleep(0)
        await until_gone(gateway, 0)


async def test_page_that_answers_no_ping_is_gone(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_client, "HEARTBEAT", 0.2)
    async with connected(gateway.client.port) as (reader, writer), gateway.client.ws_connect("/llamaproxws") as page:
        writer.write(b"GET /llamaproxws HTTP/1.1\r\n" + HANDSHAKE)
        await asyncio.wait_for(reader.readuntil(b"\x89\x00"), PATIENCE)
        # The client of the tests answers pings only while it waits for something.
        reading = asyncio.gather(page.receive(), page.receive())
        await asyncio.wait_for(reader.read(), PATIENCE)
        await until_gone(gateway, 1)
        assert gateway.live.pages == 1
        reading.cancel()
        assert not page.closed


async def test_binary_frames_are_read_as_text_is(gateway: Gateway) -> None:
    async with gateway.client.ws_connect("/llamaproxws") as socket:
        await socket.send_bytes(b'{"type":"request","event":"ping"}')
        await socket.receive()
        assert (await socket.receive()).type is WSMsgType.TEXT
