"""Many requests of every kind: nothing of them stays, neither memory nor descriptors nor tasks.

By the engine and the load generator of the measurements. `make soak` has the million. Rows wait in memory while a disk
is slow, 1.5 KB each; what they took is used again, and not given back. So a round of them waits before any comparing.
"""

import asyncio
import json
import random
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.conftest import KEY, Start
from tests.faults.raw import chat_request, connected
from tests.faults.test_ledger import database
from tests.gateway import PATIENCE, Client, chat_body

_ROOT = Path(__file__).parents[2]
_UNARY, _STREAMS, _ABORTS = 4100, 700, 200
_ROUND = _UNARY + _STREAMS + _ABORTS
_MOST_GROWTH = 10 * 1024**2
_SLACK = 3
"""Tasks: those of the connections that ask."""


@pytest.mark.parametrize("requests", [4 * _ROUND, pytest.param(1_000_000, marks=pytest.mark.soak)])
@pytest.mark.timeout(3600)
async def test_nothing_stays_of_many_requests(start: Start, tmp_path: Path, requests: int) -> None:
    command = [sys.executable, "-m", "bench.engine", "--host", "${socket}"]
    model = {"command": command, "env": {"PYTHONPATH": str(_ROOT)}, "concurrency": 256, "health_path": "/health"}
    moments = random.Random(6)
    async with start({"models": {"m": model}}) as client:
        await client.chat("m")
        with closing(sqlite3.connect(database(tmp_path), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await _round(client, moments)
        resident, tasks = client.gateway.resident(), await _tasks(client)
        for _ in range(requests // _ROUND):
            await _round(client, moments)
            assert client.gateway.resident() - resident < _MOST_GROWTH
        await _tasks_ended(client, tasks)
        growth = client.gateway.resident() - resident
        print(f"{growth / 1024:.0f} KiB more after {requests} requests")


async def _tasks(client: Client) -> int:
    found: int = (await client.get("/api/health"))["tasks"]
    return found


async def _tasks_ended(client: Client, before: int) -> None:
    end = time.monotonic() + PATIENCE
    while (now := await _tasks(client)) > before + _SLACK:
        assert time.monotonic() < end, (before, now)
        await asyncio.sleep(0.05)


async def _round(client: Client, moments: random.Random) -> None:
    """Every request is answered, but for those whose clients leave; some of these have not even been read."""
    before = await client.settled()
    await asyncio.gather(
        _fire(client, "--connections", "48", "--requests", str(_UNARY)),
        _fire(client, "--connections", "16", "--requests", str(_STREAMS), "--chunks", "8"),
        _leave(client, moments),
    )
    after = await client.settled()
    new = {state: after.get(state, 0) - before.get(state, 0) for state in after}
    assert new["ok"] + new["client_abort"] == new["received"] <= _ROUND
    assert new["ok"] >= _UNARY + _STREAMS


async def _fire(client: Client, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.fire", "ask", "--port", client.gateway.url.rsplit(":", 1)[1], "--key", KEY),
        *arguments,
        cwd=_ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    tally = json.loads(output)
    assert (tally["failures"], tally["short"]) == (0, 0), tally


async def _leave(client: Client, moments: random.Random) -> None:
    """One after the other, at any moment of a stream of two seconds or of what comes before it."""
    body = {**chat_body("m"), "stream": True, "max_tokens": 20, "pace_ms": 100}
    request = chat_request("leaves", KEY, json.dumps(body).encode())
    for _ in range(_ABORTS):
        async with connected(client.gateway.url) as (reader, writer):
            writer.write(request)
            await writer.drain()
            if moments.random() < 0.5:
                await reader.readline()
            else:
                await asyncio.sleep(moments.uniform(0, 0.01))
