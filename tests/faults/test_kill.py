"""The gateway is killed: nothing of it goes on, and the next one takes over and spares what is not its own."""

import asyncio
import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import aiohttp
import pytest

from llamaproxy.backends.orphans import STATE_FILE, identify
from tests.backends.processes import alive, wait_executed
from tests.gateway import Client, GatewayProcess, fake_model, until

SLOW = {"FAKE_TOKEN_SECONDS": "0.01", "FAKE_OUTLIVE_PARENT": "1"}
GONE = (aiohttp.ClientError, ConnectionError)
LEFTOVER = ("sleep", "60")


async def keep_asking(client: Client, model: str) -> None:
    """Until nobody answers any more."""
    with contextlib.suppress(*GONE):
        while True:
            async with client.stream(model, max_tokens=20) as response:
                await response.read()


async def ended(*engines: int) -> None:
    await until(lambda: not any(map(alive, engines)), "the kernel ends the engines", 5)


@pytest.mark.parametrize("times", [5, pytest.param(100, marks=pytest.mark.soak)])
async def test_killed_under_load_again_and_again(tmp_path: Path, times: int) -> None:
    models = {name: fake_model(tmp_path, name, env=SLOW) for name in "abc"}
    gateway = GatewayProcess(tmp_path, {"models": models, "limits": {"max_wait": "50ms", "min_residency": "50ms"}})
    async with gateway.running():
        for _ in range(times):
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
                client = Client(gateway, session)
                assert (await client.chat("a"))[0] == 200, "it serves at once after the restart"
                load = asyncio.gather(*(keep_asking(client, model) for model in "aabbcc"))
                await until(lambda: len(gateway.children()) == 2, "it is at work")
                engines = [child.pid for child in gateway.children()]
                gateway.signal(signal.SIGKILL)
                await gateway.wait()
                await load
            await ended(*engines)
            await gateway.start()
            assert len(list((gateway.runtime / "llamaproxy").iterdir())) == 1, "its own, and no other is left"
        assert "Traceback" not in gateway.log


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two processes in groups of their own, as engines are."""
    started = [subprocess.Popen(LEFTOVER, start_new_session=True) for _ in range(2)]
    for process in started:
        wait_executed(process.pid)
    yield started
    for process in started:
        process.kill()
        process.wait()


async def test_restart_ends_leftovers_and_spares_whoever_has_a_number_of_theirs(
    tmp_path: Path, sleepers: list[subprocess.Popen[bytes]]
) -> None:
    leftover, foreign = sleepers
    gateway = GatewayProcess(tmp_path, {"models": {"m": fake_model(tmp_path, "m")}})
    async with gateway.running(), aiohttp.ClientSession() as session:
        client = Client(gateway, session)
        await client.chat("m")
        engine = (await client.model("m"))["pid"]
        gateway.signal(signal.SIGKILL)
        await gateway.wait()
        await ended(engine)
        (left,) = (gateway.runtime / "llamaproxy").iterdir()
        state = json.loads((left / STATE_FILE).read_bytes())
        (child,) = state["children"]
        ours = asdict(identify(leftover.pid, LEFTOVER))
        state["children"] += [ours, child | {"pid": foreign.pid}]
        (left / STATE_FILE).write_text(json.dumps(state))
        await gateway.start()
        assert f"ended process {leftover.pid}" in gateway.log
        assert not alive(leftover.pid)
        assert alive(foreign.pid), "its start time and its command line are others"
        assert not left.exists()
        assert (await client.chat("m"))[0] == 200
