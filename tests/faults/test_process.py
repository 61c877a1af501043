"""Processes that leave something behind, print without end, or lose the ground under their feet."""

import asyncio
import os
import shutil
import signal
import statistics
import time
from pathlib import Path

import psutil

from llamaproxy.backends.connections import MAX_IDLE
from tests.backends.processes import alive
from tests.faults.conftest import Start
from tests.gateway import Client, Table, fake_model, until

FLOOD = 400 * 1024**2
"""Bytes; they keep the gateway's reader busy for about a second."""


async def group_of(client: Client, model: str) -> list[int]:
    """Process ids: the engine's, and then of all that runs in its group."""
    pid = (await client.model(model))["pid"]
    others = (child.pid for child in client.gateway.children() if child.pid != pid)
    return [pid, *(other for other in others if os.getpgid(other) == pid)]


async def gone(group: list[int]) -> None:
    await until(lambda: not any(map(alive, group)), "the whole group goes")


async def test_grandchild_that_holds_the_pipes_goes_with_its_killed_engine(start: Start, tmp_path: Path) -> None:
    models = {"m": fake_model(tmp_path, "m", env={"FAKE_GRANDCHILD": "1"}), "other": fake_model(tmp_path, "other")}
    async with start({"models": models}) as client:
        await client.chat("other")
        for starts in (1, 2, 3):
            assert (await client.chat("m"))[0] == 200
            assert client.gateway.spawns("m") == starts
            engine, *children = await group_of(client, "m")
            assert len(children) == 1
            os.kill(engine, signal.SIGKILL)
            await gone([engine, *children])
            assert (await client.chat("other"))[0] == 200


async def test_grandchild_goes_at_a_stop_and_the_next_start_works(start: Start, tmp_path: Path) -> None:
    models = {"m": fake_model(tmp_path, "m", env={"FAKE_GRANDCHILD": "1"}), "other": fake_model(tmp_path, "other")}
    async with start({"models": models, "limits": {"models_max": 1}}) as client:
        await client.chat("m")
        group = await group_of(client, "m")
        assert (await client.chat("other"))[0] == 200
        assert len(group) == 2
        await gone(group)
        assert (await client.chat("m"))[0] == 200


async def test_flood_on_stderr_does_not_hold_up_the_loop(start: Start, tmp_path: Path) -> None:
    """By the measure of the same request in quiet times; the machine may be slow, and one turn of the loop unlucky."""
    models = {"loud": fake_model(tmp_path, "loud", env={"FAKE_STDERR_FLOOD_BYTES": str(FLOOD)})}
    async with start({"models": models}) as client:

        async def latency() -> float:
            begun = time.perf_counter()
            await client.get("/health")
            return time.perf_counter() - begun

        quiet = statistics.median([await latency() for _ in range(50)])
        await client.session.post(client.gateway.url + "/models/load", json={"model": "loud"})
        await client.state_is("loud", "ready")
        engine = client.gateway.children()[0]
        process = psutil.Process(client.gateway.pid)
        read = process.io_counters().read_chars
        under: list[float] = []
        while len(under) < 50 or process.io_counters().read_chars - read < FLOOD / 50:
            under.append(await latency())
        assert statistics.median(under) < 10 * quiet
        assert engine.is_running()


async def test_cleaner_that_takes_the_run_directory_costs_no_request(start: Start, tmp_path: Path) -> None:
    """Engines that ran are reached by connections that are open, or else replaced; new ones have a directory again."""
    models: dict[str, Table] = {name: fake_model(tmp_path, name) for name in ("runs", "cold")}
    # Asking an engine for its metrics keeps a connection to it young.
    async with start({"models": models, "telemetry": {"metrics_interval": "1h"}}) as client:
        await client.chat("runs")
        base = client.gateway.runtime / "llamaproxy"
        shutil.rmtree(base)
        answers = await asyncio.gather(client.chat("runs"), client.chat("cold"))
        assert [status for status, _ in answers] == [200, 200]
        assert client.gateway.spawns("cold") == 1
        await asyncio.sleep(MAX_IDLE)
        assert (await client.chat("runs"))[0] == 200
        assert client.gateway.spawns("runs") == 2, "nobody reaches the first one any more"
        (directory,) = base.iterdir()
        assert (base.stat().st_mode & 0o777, directory.stat().st_mode & 0o777) == (0o700, 0o700)
        assert len(client.gateway.children()) == 2
