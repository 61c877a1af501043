"""Servers elsewhere that are down, come up, go down, fail, hang and speak garbage; a second gateway is one of them."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from llamaproxy.backends.ports import free_port
from tests.backends.sites import Site
from tests.faults.conftest import Start
from tests.gateway import PATIENCE, Client, GatewayProcess, Table, fake_model, until

CHAT = "/v1/chat/completions"


@asynccontextmanager
async def second(folder: Path, port: int, **settings: Any) -> AsyncIterator[GatewayProcess]:
    """A gateway with one model of the fake engine."""
    os.makedirs(folder, exist_ok=True)
    models = {"inner": fake_model(folder, "inner", **settings)}
    gateway = GatewayProcess(folder, {"server": {"port": port}, "models": models})
    async with gateway.running():
        yield gateway


def far(port: int, **settings: Any) -> dict[str, Any]:
    return {"url": f"http://127.0.0.1:{port}/v1", "upstream_name": "inner", "health_interval": "100ms", **settings}


async def test_one_that_is_down_is_told_at_once_and_used_when_it_comes_up(start: Start, tmp_path: Path) -> None:
    port = free_port()
    models = {"far": far(port), "near": fake_model(tmp_path, "near", pinned=True)}
    config: dict[str, Table] = {"models": models, "limits": {"models_max": 1}, "breaker": {"open": "200ms"}}
    async with start(config) as client:
        assert (await client.chat("near"))[0] == 200
        async with asyncio.timeout(2):
            status, body = await client.chat("far")
        assert (status, body["error"]["code"]) == (503, "model_unavailable")
        assert "cannot connect" in body["error"]["message"]
        async with second(tmp_path / "second", port) as gateway:
            status, body = await client.chat("far")
            assert (status, body["model"]) == (200, "inner")
            assert gateway.spawns() == 1
            assert (await client.model("near"))["state"] == "ready", "nobody made room for it"


async def test_three_times_down_opens_its_breaker_and_time_closes_it(start: Start, tmp_path: Path) -> None:
    port = free_port()
    async with start({"models": {"far": far(port)}, "breaker": {"open": "300ms"}}) as client:
        for _ in range(3):
            assert "is not ready" in (await client.chat("far"))[1]["error"]["message"]
        status, body = await client.chat("far")
        assert status == 503
        assert "is isolated after repeated failures" in body["error"]["message"]
        assert "cannot connect" in body["error"]["message"]
        async with second(tmp_path / "second", port):
            await until_ok(client)


async def until_ok(client: Client) -> None:
    end = time.monotonic() + PATIENCE
    while (await client.chat("far"))[0] != 200:
        assert time.monotonic() < end, "it does not recover"
        await asyncio.sleep(0.05)


async def test_one_that_goes_down_in_the_middle_of_a_stream_ends_it_with_an_error(start: Start, tmp_path: Path) -> None:
    port = free_port()
    async with start({"models": {"far": far(port)}}) as client:
        received = b""
        async with second(tmp_path / "second", port, env={"FAKE_TOKEN_SECONDS": "0.05"}) as gateway:
            async with client.stream("far", max_tokens=500) as response:
                received += await response.content.readany()
                gateway.signal(signal.SIGKILL)
                with pytest.raises(aiohttp.ClientPayloadError):
                    async for chunk in response.content.iter_any():
                        received += chunk
            await gateway.wait()
        assert b"[DONE]" not in received
        last = received.strip().rsplit(b"\n\n", 1)[-1]
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "bad_upstream_response"
        await client.state_is("far", "stopped")
        async with second(tmp_path / "second", port):
            assert (await client.chat("far"))[0] == 200


async def test_one_that_dies_under_many_requests_counts_once(start: Start, tmp_path: Path) -> None:
    """Its connections all break; it was one death."""
    port = free_port()
    env = {"FAKE_HANG_BEFORE_FIRST_BYTE": "1"}
    async with start({"models": {"far": far(port, health_interval="1h")}}) as client:
        async with second(tmp_path / "second", port, env=env, concurrency=32) as gateway:
            asking = [asyncio.ensure_future(client.chat("far")) for _ in range(16)]  # noqa: TID251 - as clients do
            await until(lambda: requests(gateway) >= 16, "all are being served")
            gateway.signal(signal.SIGKILL)
            answers = await asyncio.gather(*asking)
        assert {status for status, _ in answers} == {503}
        model = await client.model("far")
        assert model["breaker"]["state"] == "closed", "one lost server, one failed search for all who wait"
        assert model["starts"] == 2


def requests(gateway: GatewayProcess) -> int:
    return sum(line[0] == "request" and line[3] == CHAT for line in gateway.journal())


async def test_one_that_answers_500_is_isolated_and_recovers(start: Start, tmp_path: Path) -> None:
    async with (
        Site().open() as site,
        start({"models": {"far": {"url": site.url}}, "breaker": {"open": "200ms"}}) as client,
    ):
        site.statuses[CHAT] = 500
        statuses = [(await client.chat("far"))[0] for _ in range(7)]
        assert statuses == [500] * 5 + [503] * 2
        site.statuses[CHAT] = 200
        await until_ok(client)
        assert (await client.model("far"))["breaker"]["state"] == "closed"


async def test_one_that_hangs_is_a_timeout_and_lost_when_its_health_hangs_too(start: Start, tmp_path: Path) -> None:
    async with Site().open() as site:
        site.statuses[CHAT] = 200
        config: dict[str, Table] = {
            "models": {"far": {"url": site.url, "health_interval": "200ms"}},
            "engine": {"first_byte_timeout": "300ms"},
        }
        async with start(config) as client:
            assert (await client.chat("far"))[0] == 200
            site.gate.clear()
            status, body = await client.chat("far")
            assert (status, body["error"]["code"]) == (504, "upstream_stalled")
            await client.state_is("far", "stopped")
            site.gate.set()
            assert (await client.chat("far"))[0] == 200


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000,
    ],
)
async def test_one_that_speaks_garbage_is_no_server(start: Start, answer: bytes) -> None:
    async with speaking(answer) as port, start({"models": {"far": far(port)}}) as client:
        status, body = await client.chat("far")
        assert (status, body["error"]["code"]) == (503, "model_unavailable")
        assert body["error"]["message"].isprintable()


async def test_one_that_answers_its_health_and_then_speaks_garbage_is_a_bad_gateway(start: Start) -> None:
    healthy = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with speaking(b"nonsense\r\n\r\n", healthy) as port, start({"models": {"far": far(port)}}) as client:
        status, body = await client.chat("far")
        assert (status, body["error"]["code"]) == (502, "bad_upstream_response")


@asynccontextmanager
async def speaking(answer: bytes, health: bytes | None = None) -> AsyncIterator[int]:
    """A server that says the same to everybody, except to those who ask for its health."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read(65536)
        writer.write(health if health and asked.startswith(b"GET /health") else answer)
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", port := free_port())
    try:
        yield port
    finally:
        server.close()


async def test_a_model_that_moves_elsewhere_and_back_is_served_all_the_time(start: Start, tmp_path: Path) -> None:
    here = fake_model(tmp_path, "m", env={"FAKE_TOKEN_SECONDS": "0.02"})
    async with Site().open() as site, start({"models": {"m": here}, "limits": {"models_max": 1}}) as client:
        site.statuses[CHAT] = 200
        async with client.stream("m", max_tokens=40) as response:
            await response.content.readline()
            await reload(client, {"m": {"url": site.url, "api_key": "k3y"}, "other": here})
            moved = asyncio.gather(client.chat("m"))
            assert b"[DONE]" in await response.read(), "what it was answering here ended well"
        ((status, _),) = await moved
        assert (status, site.asked[CHAT]) == (200, 1)
        assert site.headers[-1]["Authorization"] == "Bearer k3y"
        assert (await client.chat("other"))[0] == 200, "its place is free"
        await reload(client, {"m": here})
        assert (await client.chat("m"))[0] == 200
        assert site.asked[CHAT] == 1


async def reload(client: Client, models: Mapping[str, Table]) -> None:
    client.gateway.write({"models": models})
    async with client.post("/api/reload", {}) as response:
        assert response.status == 200
