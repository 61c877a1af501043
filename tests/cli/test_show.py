"""llamaproxy.cli.show: `status`, `ps` and `models` against a gateway that runs."""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from llamaproxy.backends.ports import free_port
from tests.cli.talking import say
from tests.gateway import PATIENCE, Client, GatewayProcess, fake_model

NOBODY = "http://127.0.0.1:9"


async def test_what_the_gateway_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = {"org/n": fake_model(tmp_path, "n", pinned=True), "idle": fake_model(tmp_path, "idle")}
    async with GatewayProcess(tmp_path, {"models": models}).running() as gateway, aiohttp.ClientSession() as session:
        assert (await Client(gateway, session).chat("org/n"))[0] == 200
        listed = await say(capsys, gateway.url, "models")
        head, first, second = listed.out.splitlines()
        assert head.split()[:5] == ["NAME", "STATE", "PID", "PORT", "UP"]
        assert first.split()[:2] == ["org/n", "ready"]
        assert second.split() == "idle stopped - - - 0 0 - - closed - path - -".split()
        running = await say(capsys, gateway.url, "ps", "--json")
        assert [model["name"] for model in json.loads(running.out)["models"]] == ["org/n"]
        status = await say(capsys, gateway.url, "status")
        assert status.out.startswith("llamaproxy 0")
        assert ": ok\n" in status.out
        assert "requests: 1 received, 0 in flight, 1 ok" in status.out
        told = json.loads((await say(capsys, gateway.url, "status", "--json")).out)
        assert (told["health"]["status"], told["totals"]["ok"], len(told["models"])) == ("ok", 1, 2)
        assert told["schema_version"] == 1
        gateway.write({"limits": {"modles_max": 1}})
        assert (await say(capsys, gateway.url, "reload")).code == 78
        degraded = await say(capsys, gateway.url, "status")
        assert ": degraded\n" in degraded.out
        assert "fault: limits.modles_max: unknown key" in degraded.out


async def test_what_is_known_of_a_model_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its process, its port, its latency, its engine's version and where its output is kept."""
    telemetry = {"log_dir": str(tmp_path / "logs"), "metrics_interval": "500ms"}
    port = free_port()
    models = {"m": fake_model(tmp_path, "m", port=port)}
    async with (
        GatewayProcess(tmp_path, {"models": models, "telemetry": telemetry}).running() as gateway,
        aiohttp.ClientSession() as session,
    ):
        assert (await Client(gateway, session).chat("m"))[0] == 200
        model = await seen(Client(gateway, session), "m", "version")
        assert (model["port"], model["version"]) == (port, "b0-fake")
        assert model["latency_ms"] > 0
        assert model["log"] == str(tmp_path / "logs" / "m.engine.log")
        row = (await say(capsys, gateway.url, "models")).out.splitlines()[1].split()
        assert row[3] == str(port)
        assert row[-2:] == ["b0-fake", model["log"]]
        assert "ms" in row


async def seen(client: Client, model: str, field: str) -> dict[str, Any]:
    """The model, once somebody has found out this much about it."""
    end = time.monotonic() + PATIENCE
    while (found := await client.model(model))[field] is None:
        assert time.monotonic() < end, found
        await asyncio.sleep(0.05)
    return found


async def test_watching_until_interrupted(tmp_path: Path) -> None:
    """A line of JSON each time."""
    async with GatewayProcess(tmp_path, {}).running() as gateway:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "llamaproxy", "status", "--watch", "--json", "--url", gateway.url),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout
        lines = [await asyncio.wait_for(process.stdout.readline(), PATIENCE) for _ in range(2)]
        assert [json.loads(line)["health"]["status"] for line in lines] == ["ok", "ok"]
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 130


@pytest.mark.parametrize("verb", ["status", "ps", "models"])
async def test_nobody_is_there(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = await say(capsys, NOBODY, verb, "--json")
    assert (said.code, said.out) == (3, "")
    assert "no gateway answers" in said.err[0]
