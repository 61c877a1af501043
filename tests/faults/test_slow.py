"""Clients that read or write slowly, or not at all: they cost little memory, and nobody else time."""

import asyncio
import json
import socket
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from bench.fire import quantile
from tests.faults.conftest import KEY, Start
from tests.faults.gauge import peak
from tests.faults.raw import answers, chat_request, connected
from tests.gateway import Client, Table, chat_body, fake_model

_READERS = {True: 10, False: 2}
"""By whether they want a stream: a unary reply of this size costs the engine itself much."""
_LARGE = 100 * 1000**2
"""Bytes of each reply."""
_TOKEN = 100_000
_BUFFERED = 1024**2
"""Bytes that the gateway may take for each of them."""


@asynccontextmanager
async def slow_reader(url: str, request: bytes) -> AsyncIterator[socket.socket]:
    """A client that has sent its request and reads nothing; its own buffer is small."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (host, int(port)))
        await loop.sock_sendall(connection, request)
        yield connection


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
async def test_slow_readers_of_large_replies_cost_little_memory(start: Start, tmp_path: Path, stream: bool) -> None:
    """The engine's bytes stay where they are: each reader takes a little at a time, and one all of it in the end."""
    count, taken = _READERS[stream], 0
    model = fake_model(tmp_path, "m", parallel=count, ctx_size=1 << 20, env={"FAKE_TOKEN_BYTES": str(_TOKEN)})
    body = {**chat_body("m"), "stream": stream, "max_tokens": _LARGE // _TOKEN}
    request = chat_request("slow", KEY, json.dumps(body).encode())
    async with start({"models": {"m": model}}) as client, AsyncExitStack() as stack:
        await client.chat("m", max_tokens=1)
        loop = asyncio.get_running_loop()
        async with peak(client.gateway.resident) as resident:
            readers = [await stack.enter_async_context(slow_reader(client.gateway.url, request)) for _ in range(count)]
            for _ in range(20):
                for reader in readers:
                    taken += len(await loop.sock_recv(reader, 1024))
                await asyncio.sleep(0.05)
        print(f"{resident.growth / count / 1024:.0f} KiB for each of {count} slow readers")
        assert resident.growth < count * _BUFFERED
        assert (await client.model("m"))["in_flight"] == count
        assert await _read(readers[0]) > _LARGE - taken
        assert (await client.chat("m", max_tokens=1))[0] == 200


async def _read(connection: socket.socket) -> int:
    """The bytes that come until nothing does for a while."""
    loop = asyncio.get_running_loop()
    total = 0
    try:
        while data := await asyncio.wait_for(loop.sock_recv(connection, 1 << 20), 1):
            total += len(data)
    except TimeoutError:
        pass
    return total


async def test_slow_writer_of_a_body_has_its_deadline(start: Start, tmp_path: Path) -> None:
    config: dict[str, Table] = {
        "models": {"m": fake_model(tmp_path, "m")},
        "server": {"port": 0, "body_timeout": "300ms"},
    }
    whole = chat_request("slow", KEY, json.dumps(chat_body("m")).encode())
    async with start(config) as client, connected(client.gateway.url) as (reader, writer):
        for byte in whole[:-5]:
            writer.write(bytes([byte]))
        answer, _ = await answers(reader, 1)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"request_timeout"' in answer
        assert client.gateway.spawns() == 0


_CROWD = 1000
_ASKED = 400


async def test_crowd_of_slow_writers_holds_nobody_up(start: Start, tmp_path: Path) -> None:
    """A thousand that send a byte now and then, of heads and of bodies, beside a client that is asked of nothing."""
    model = fake_model(tmp_path, "m")
    whole = chat_request("slow", KEY, json.dumps(chat_body("m")).encode())
    async with start({"models": {"m": model}}) as client, AsyncExitStack() as stack:
        await client.chat("m", max_tokens=1)
        alone = await _latencies(client)
        descriptors = client.gateway.descriptors()
        crowd = [await stack.enter_async_context(connected(client.gateway.url)) for _ in range(_CROWD)]
        for number, (_, writer) in enumerate(crowd):
            writer.write(whole[: -len(whole) // 2] if number % 2 else whole[:-10])
        async with asyncio.TaskGroup() as group:
            dripping = group.create_task(_drip([writer for _, writer in crowd]))
            beside = await _latencies(client)
            dripping.cancel()
        assert client.gateway.descriptors() >= descriptors + _CROWD - 5, "they were all there"
        p99 = quantile(alone, 0.99), quantile(beside, 0.99)
        print(f"p99 alone {p99[0] * 1e3:.2f} ms, beside {_CROWD} slow writers {p99[1] * 1e3:.2f} ms")
        assert statistics.median(beside) < 3 * statistics.median(alone)


async def _drip(writers: list[asyncio.StreamWriter]) -> None:
    """Each of them once a second; they are still within their heads, or their bodies, long after."""
    while True:
        for writer in writers:
            writer.write(b"x")
            await asyncio.sleep(1 / _CROWD)


async def _latencies(client: Client) -> list[float]:
    """Seconds, of unary requests one after the other."""
    taken = []
    for _ in range(_ASKED):
        begun = time.perf_counter()
        assert (await client.chat("m", max_tokens=1))[0] == 200
        taken.append(time.perf_counter() - begun)
    return taken
