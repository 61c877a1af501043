"""The real gateway with fake engines, and what must be true after every fault."""

import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from llamaproxy.server.guard import fingerprint
from tests.gateway import PROMPT, Client, GatewayProcess, Table, until

KEY = "lp-of-the-fault-tests"
_KEYS: Table = {"tests": {"sha256": fingerprint(KEY)}}
_ROWS_STATES = {"ok", "client_abort", "upstream_error", "rejected", "truncated"}
_EXECUTOR = min(32, (os.cpu_count() or 1) + 4)
"""Threads that asyncio keeps for what blocks, at most."""

Start = Callable[[Mapping[str, Table]], AbstractAsyncContextManager[Client]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a gateway; when the block ends, everything that must hold after a fault is checked."""

    @asynccontextmanager
    async def starting(config: Mapping[str, Table]) -> AsyncIterator[Client]:
        gateway = GatewayProcess(tmp_path, {"keys": _KEYS, **config})
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        shown = {"Authorization": f"Bearer {KEY}"}
        async with gateway.running(), aiohttp.ClientSession(connector=connector, headers=shown) as session:
            client = Client(gateway, session)
            await until(lambda: gateway.has_open("llamaproxy.db-wal"), "the database is open")
            earlier = len(await client.rows())
            descriptors, threads = gateway.descriptors(), gateway.threads()
            yield client
            await _all_ended(client, earlier)
            await _nothing_left(gateway, descriptors, threads)
            await _nothing_told(client)

    return starting


async def _all_ended(client: Client, earlier: int) -> None:
    """Every request has ended, and is counted once; `earlier` rows are those of gateways before this one."""
    totals = await client.settled()
    ended = sum(count for state, count in totals.items() if state in _ROWS_STATES)
    assert totals["received"] == ended, totals
    rows = await client.rows()
    assert all(row["state"] in _ROWS_STATES for row in rows)
    if earlier + totals["received"] <= 900:
        assert len(rows) == earlier + totals["received"]


async def _nothing_left(gateway: GatewayProcess, descriptors: int, threads: int) -> None:
    """Beside the engines that run. What asyncio's own tasks hold shows in these, too; they cannot be asked for."""
    await until(lambda: not gateway.zombies(), "zombies are reaped", 5)
    engines = len(gateway.children())
    # Each engine has a pipe; the client's own connection is one, and may meet its predecessor's end. Idle connections
    # to engines end when the engines close them, after 5 s.
    await until(lambda: gateway.descriptors() <= descriptors + engines + 3, "descriptors are closed", 15)
    # Each engine has a thread that waits for its end.
    await until(lambda: gateway.threads() <= threads + engines + _EXECUTOR, "threads have ended", 5)


async def _nothing_told(client: Client) -> None:
    """The log has no failure of the gateway's own, and no secret."""
    log = client.gateway.log
    assert "Traceback" not in log, log[-4000:]
    for secret in (PROMPT, KEY, fingerprint(KEY)):
        assert secret not in log
        assert secret not in json.dumps(await client.rows())
