"""llamaproxy.cli.act: `start`, `stop`, `restart`, `pin` and `unpin` against a gateway that runs."""

import json
from pathlib import Path

import aiohttp
import pytest

from tests.cli.talking import say
from tests.gateway import Client, GatewayProcess, fake_model


async def test_words_become_deeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = {"org/n": fake_model(tmp_path, "n"), "b": fake_model(tmp_path, "b")}
    async with GatewayProcess(tmp_path, {"models": models}).running() as gateway, aiohttp.ClientSession() as session:
        client = Client(gateway, session)
        plan = await say(capsys, gateway.url, "start", "all", "--dry-run")
        assert (plan.code, plan.out, gateway.spawns()) == (0, "start org/n\nstart b\n", 0)
        started = await say(capsys, gateway.url, "start", "org/n", "--json")
        told = json.loads(started.out)
        assert (told["schema_version"], told["models"][0]["state"]) == (1, "starting")
        await client.state_is("org/n", "ready")
        assert (await say(capsys, gateway.url, "restart", "org/n")).code == 0
        pinned = await say(capsys, gateway.url, "pin", "org/n", "b")
        assert [line.split()[-1] for line in pinned.out.splitlines()] == ["PINNED", "yes", "yes"]
        assert "pinned = true" in pinned.err[0]
        assert (await say(capsys, gateway.url, "unpin", "all")).code == 0
        assert not (await client.model("b"))["pinned"]
        mixed = await say(capsys, gateway.url, "stop", "nobody", "org/n")
        assert (mixed.code, len(mixed.out.splitlines())) == (4, 2)
        assert "there is no model 'nobody'" in mixed.err[0]
        await client.state_is("org/n", "stopped")


async def test_a_model_named_all_is_one_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = {name: fake_model(tmp_path, name) for name in ("all", "b")}
    async with GatewayProcess(tmp_path, {"models": models}).running() as gateway:
        assert (await say(capsys, gateway.url, "pin", "all", "--dry-run")).out == "pin all\n"


async def test_nobody_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    said = await say(capsys, "http://127.0.0.1:9", "stop", "m")
    assert (said.code, said.out) == (3, "")


async def test_a_name_is_one_part_of_the_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever it is, nothing else is asked for."""
    async with GatewayProcess(tmp_path, {"models": {"m": fake_model(tmp_path, "m")}}).running() as gateway:
        for name in ("../../api/reload", "m/start?x=", "m#", "\x1b[31m", "x" * 200):
            said = await say(capsys, gateway.url, "stop", name)
            assert (said.code, said.out) == (4, "")
            assert "there is no model" in said.err[0]
            assert said.err[0].isprintable()
