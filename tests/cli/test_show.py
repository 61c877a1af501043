"""llamaproxy.cli.show: `status`, `ps` and `models` against a gateway that runs."""

import json
from pathlib import Path

import aiohttp
import pytest

from tests.cli.talking import say
from tests.gateway import Client, GatewayProcess, fake_model

NOBODY = "http://127.0.0.1:9"


async def test_what_the_gateway_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = {"org/n": fake_model(tmp_path, "n", pinned=True), "idle": fake_model(tmp_path, "idle")}
    async with GatewayProcess(tmp_path, {"models": models}).running() as gateway, aiohttp.ClientSession() as session:
        assert (await Client(gateway, session).chat("org/n"))[0] == 200
        listed = await say(capsys, gateway.url, "models")
        head, first, second = listed.out.splitlines()
        assert head.split()[:4] == ["NAME", "STATE", "PID", "UP"]
        assert (first.split()[:2], first.split()[-1]) == (["org/n", "ready"], "yes")
        assert second.split() == ["idle", "stopped", "-", "-", "0", "0", "-", "closed", "-"]
        running = await say(capsys, gateway.url, "ps", "--json")
        assert [model["name"] for model in json.loads(running.out)["models"]] == ["org/n"]
        status = await say(capsys, gateway.url, "status")
        assert status.out.startswith("llamaproxy 0")
        assert ": ok\n" in status.out
        assert "requests: 1 received, 0 in flight, 1 ok" in status.out
        told = json.loads((await say(capsys, gateway.url, "status", "--json")).out)
        assert (told["health"]["status"], told["totals"]["ok"], len(told["models"])) == ("ok", 1, 2)
        gateway.write({"limits": {"modles_max": 1}})
        assert (await say(capsys, gateway.url, "reload")).code == 78
        degraded = await say(capsys, gateway.url, "status")
        assert ": degraded\n" in degraded.out
        assert "fault: limits.modles_max: unknown key" in degraded.out


@pytest.mark.parametrize("verb", ["status", "ps", "models"])
async def test_nobody_is_there(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = await say(capsys, NOBODY, verb, "--json")
    assert (said.code, said.out) == (69, "")
    assert "no gateway answers" in said.err[0]
