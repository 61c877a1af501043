"""A gateway that may open only so many files answers, or closes, and is well again when there is room; one that may
open many holds many streams."""

import asyncio
import contextlib
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.faults.conftest import KEY, Start
from tests.faults.gauge import peak
from tests.faults.raw import connected
from tests.gateway import PATIENCE, Client, Table, fake_model, until

_LIMIT = 64
_CROWD = 200
_WATCHED = 1.0
"""Seconds."""
_STREAMS = 2000
_ROOT = Path(__file__).parents[2]

limited = pytest.mark.skipif(sys.platform != "linux", reason="setting the limits of another process is Linux's own")


@limited
async def test_idle_crowd_that_takes_all_descriptors_is_no_busy_loop(start: Start, tmp_path: Path) -> None:
    models: dict[str, Table] = {name: fake_model(tmp_path, name) for name in ("warm", "cold")}
    async with start({"models": models}) as client:
        await client.chat("warm")
        _limit(client)
        async with AsyncExitStack() as stack:
            for _ in range(_CROWD):
                with contextlib.suppress(ConnectionError):
                    await stack.enter_async_context(connected(client.gateway.url))
            assert client.gateway.descriptors() >= _LIMIT - 5
            assert await _processor_share(client.gateway.pid) < 0.5
        await until(lambda: client.gateway.descriptors() < _LIMIT // 2, "the crowd has gone")
        for name in models:
            assert (await client.chat(name))[0] == 200


def _limit(client: Client) -> None:
    resource.prlimit(client.gateway.pid, resource.RLIMIT_NOFILE, (_LIMIT, _LIMIT))


async def _processor_share(pid: int) -> float:
    process = psutil.Process(pid)
    before = process.cpu_times()
    await asyncio.sleep(_WATCHED)
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / _WATCHED


@limited
async def test_requests_that_find_no_descriptor_are_told_and_the_next_ones_served(start: Start, tmp_path: Path) -> None:
    """A connection that cannot be accepted is closed: its client asks again."""
    models: dict[str, Table] = {name: fake_model(tmp_path, name) for name in ("warm", "cold")}
    async with start({"models": models, "breaker": {"open": "500ms"}}) as client:
        await client.chat("warm")
        _limit(client)
        ends = Counter(await asyncio.gather(*(_asked(client, name) for name in ("warm", "cold") * (_CROWD // 2))))
        assert ends.keys() <= {200, 503, "closed"}
        assert ends[503] and ends["closed"], "there were too few"
        for name in models:
            end = time.monotonic() + PATIENCE
            while (ended := await _asked(client, name)) != 200:
                assert time.monotonic() < end, (name, ended)
                await asyncio.sleep(0.05)


async def _asked(client: Client, name: str) -> int | str:
    try:
        status, _ = await client.chat(name)
    except aiohttp.ClientConnectionError:
        return "closed"
    return status


async def test_thousands_of_idle_streams_stay_alive_and_cost_little_memory(start: Start, tmp_path: Path) -> None:
    """By the engine and the client of the measurements, which can hold so many."""
    command = [sys.executable, "-m", "bench.engine", "--idle-close", "0", "--host", "${socket}"]
    model = {
        "command": command,
        "env": {"PYTHONPATH": str(_ROOT)},
        "concurrency": 2 * _STREAMS,
        "health_path": "/health",
    }
    async with start({"models": {"m": model, "other": fake_model(tmp_path, "other")}}) as client:
        assert (await client.chat("m"))[0] == 200
        async with peak(client.gateway.resident) as resident, _streams(client.gateway.url, _STREAMS) as opened:
            assert opened == _STREAMS
            assert (await client.model("m"))["in_flight"] == _STREAMS
            assert (await client.chat("other"))[0] == 200
        print(f"{resident.growth / _STREAMS / 1024:.1f} KiB for each of {_STREAMS} idle streams")
        assert resident.growth / _STREAMS < 64 * 1024
        totals = await client.settled()
        assert totals == {"received": _STREAMS + 2, "in_flight": 0, "ok": 2, "client_abort": _STREAMS}


@asynccontextmanager
async def _streams(url: str, count: int) -> AsyncIterator[int]:
    """So many streams that say a word an hour; yields how many have begun, and leaves when the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.fire", "hold", "--port", url.rsplit(":", 1)[1], "--key", KEY),
        *("--connections", str(count), "--chunks", "10", "--pace", "3600000"),
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin and process.stdout
    try:
        yield json.loads(await process.stdout.readline())["open"]
    finally:
        process.stdin.close()
        await process.wait()
