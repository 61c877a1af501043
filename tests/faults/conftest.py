"""The real gateway with fake engines, and what must be true after every fault."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.gateway import PATIENCE, Client, GatewayProcess, Table, until

_ROWS_STATES = {"ok", "client_abort", "upstream_error", "rejected", "truncated"}

Start = Callable[[Mapping[str, Table]], AbstractAsyncContextManager[Client]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a gateway; when the block ends, everything that must hold after a fault is checked."""

    @asynccontextmanager
    async def starting(config: Mapping[str, Table]) -> AsyncIterator[Client]:
        gateway = GatewayProcess(tmp_path, config)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with gateway.running(), aiohttp.ClientSession(connector=connector) as session:
            client = Client(gateway, session)
            await client.get("/health")
            before = gateway.descriptors()
            yield client
            await _aftermath(client, before)

    return starting


async def _aftermath(client: Client, descriptors: int) -> None:
    """Every request has ended and is counted once, nothing leaks, and nothing failed unseen."""
    end = time.monotonic() + PATIENCE
    while (totals := await client.totals())["in_flight"]:
        assert time.monotonic() < end, totals
        await asyncio.sleep(0.02)
    ended = sum(count for state, count in totals.items() if state in _ROWS_STATES)
    assert totals["received"] == ended, totals
    rows = await client.rows()
    assert all(row["state"] in _ROWS_STATES for row in rows)
    if totals["received"] <= 900:
        assert len(rows) == totals["received"]
    await until(lambda: not client.gateway.zombies(), "zombies are reaped", 5)
    engines = len(client.gateway.children())
    # Each engine has a pipe; the client's own connection is one, and may meet its predecessor's end.
    allowed = descriptors + engines + 3
    await until(lambda: client.gateway.descriptors() <= allowed, "descriptors are closed", 5)
    assert "Traceback" not in client.gateway.log, client.gateway.log[-4000:]
