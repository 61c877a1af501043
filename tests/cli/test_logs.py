"""llamaproxy.cli.logs: the log of a gateway that runs, as lines for people and for programs."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from llamaproxy import cli
from tests.cli.talking import say
from tests.gateway import PATIENCE, Client, GatewayProcess, fake_model


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """With two models, of which one has run."""
    models = {name: fake_model(tmp_path, name.replace("/", "-")) for name in ("org/n", "b")}
    async with GatewayProcess(tmp_path, {"models": models}).running() as running, aiohttp.ClientSession() as session:
        await Client(running, session).chat("org/n")
        yield running


async def test_lines_of_all_are_in_order(gateway: GatewayProcess, capsys: pytest.CaptureFixture[str]) -> None:
    said = await say(capsys, gateway.url, "logs", "--json")
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert said.code == 0
    assert [line["id"] for line in lines] == sorted(line["id"] for line in lines)
    assert {"engine", "backends.pool", "backends.spawn"} & {line["source"] for line in lines}


async def test_lines_of_one_model(gateway: GatewayProcess, capsys: pytest.CaptureFixture[str]) -> None:
    said = await say(capsys, gateway.url, "logs", "org/n", "--json")
    assert {json.loads(line)["model"] for line in said.out.splitlines()} == {"org/n"}
    assert (await say(capsys, gateway.url, "logs", "b")).out == ""


async def test_the_last_lines_only(gateway: GatewayProcess, capsys: pytest.CaptureFixture[str]) -> None:
    everything = (await say(capsys, gateway.url, "logs")).out.splitlines()
    assert len(everything) > 2
    assert (await say(capsys, gateway.url, "logs", "all", "--tail", "2")).out.splitlines() == everything[-2:]
    assert (await say(capsys, gateway.url, "logs", "--tail", "0")).out == ""


async def test_only_what_is_bad_enough(gateway: GatewayProcess, capsys: pytest.CaptureFixture[str]) -> None:
    said = await say(capsys, gateway.url, "logs", "--level", "error", "--json")
    assert {json.loads(line)["level"] for line in said.out.splitlines()} <= {"error"}
    assert "INFO" in (await say(capsys, gateway.url, "logs")).out


async def test_model_that_is_not_there(gateway: GatewayProcess, capsys: pytest.CaptureFixture[str]) -> None:
    said = await say(capsys, gateway.url, "logs", "nobody")
    assert (said.code, said.out) == (cli.EXIT_NOT_FOUND, "")
    assert "there is no model 'nobody'" in said.err[0]


@pytest.mark.parametrize("tail", ["-1", "x", "100001", "1_0"])
def test_number_that_is_none(tail: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["logs", "--tail", tail])


async def followed(gateway: GatewayProcess, *words: str) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "llamaproxy", "logs", *words, "--follow", "--url", gateway.url)
    return await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=dict(os.environ)
    )


async def line(process: asyncio.subprocess.Process, part: str) -> str:
    """The next that has this in it."""
    assert process.stdout
    async with asyncio.timeout(PATIENCE):
        while part not in (found := (await process.stdout.readline()).decode()):
            assert found, "it has ended"
    return found


async def test_what_comes_is_followed_until_somebody_interrupts(gateway: GatewayProcess) -> None:
    process = await followed(gateway, "all", "--tail", "1")
    await line(process, "")
    async with aiohttp.ClientSession() as session:
        await Client(gateway, session).chat("b")
    await line(process, "[b]")
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 130


async def test_gateway_that_goes_ends_it(gateway: GatewayProcess) -> None:
    process = await followed(gateway)
    await line(process, "org/n")
    await gateway.stop()
    _, stderr = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert b"no gateway answers" in stderr
    assert process.returncode == cli.EXIT_UNAVAILABLE


async def test_reader_that_goes_is_no_fault(gateway: GatewayProcess) -> None:
    process = await followed(gateway)
    await line(process, "org/n")
    process.stdout._transport.close()  # type: ignore[union-attr]  # asyncio has no other way to close a pipe it reads
    async with aiohttp.ClientSession() as session:
        await Client(gateway, session).chat("b")
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 0


async def test_nothing_that_a_terminal_obeys_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = {
        **{"id": 1, "timestamp": 1.5, "level": "info", "source": "engine", "model": "m", "request_id": None},
        **{"message": "\x1b[31mred\nforged", "context": None},
    }
    page = {"logs": [hostile], "next": None}
    monkeypatch.setattr("llamaproxy.cli.client.get", lambda arguments, path, timeout: {"name": "m", **page})
    assert cli.main(["logs", "m"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(r".500 INFO    engine: [m] \x1b[31mred")
    assert second == "    forged"
