"""llamaproxy.cli.bench: what is said of a load test, and how it ends; on the real gateway and on servers that fail."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from llamaproxy import cli
from tests.cli.talking import Said
from tests.gateway import PATIENCE, GatewayProcess, fake_model
from tests.loadtest.broken import Broken

SHORT = ("--concurrency", "1,3", "--requests", "4", "--prompt-tokens", "20", "--output-tokens", "5")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("LLAMAPROXY_URL", "LLAMAPROXY_API_KEY", "LLAMAPROXY_CONFIG"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    async with GatewayProcess(tmp_path, {"models": {"tiny": fake_model(tmp_path, "tiny")}}).running() as gateway:
        yield gateway


@pytest.fixture
async def server() -> AsyncIterator[Broken]:
    async with Broken("good").running() as server:
        yield server


async def bench(capsys: pytest.CaptureFixture[str], *words: str) -> Said:
    code = await asyncio.to_thread(cli.main, ["bench", *words])
    out, err = capsys.readouterr()
    return Said(code, out, [line.removeprefix("llamaproxy: ") for line in err.splitlines()])


def steps(said: Said) -> list[dict[str, Any]]:
    document = json.loads(said.out)
    assert document["schema_version"] == 1
    found: list[dict[str, Any]] = document["steps"]
    return found


@pytest.mark.parametrize("manner", [[], ["--no-stream"]])
async def test_the_gateway(gateway: GatewayProcess, manner: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Its only model is found, and its engine's counts are believed."""
    said = await bench(capsys, f"{gateway.url}/v1", *SHORT, *manner, "--json")
    assert (said.code, said.err) == (0, [])
    for step in steps(said):
        assert (step["model"], step["requests"], step["failed"], step["output_tokens"]) == ("tiny", 4, 0, 20)
        assert (step["tokens_told_by_server"], step["stopped"]) == (True, False)
        assert step["prompt_tokens"] > 0
        assert step["latency_ms"]["p50"] > 0
        assert (step["ttft_ms"] is None) is bool(manner)
    assert [step["clients"] for step in steps(said)] == [1, 3]


async def test_a_model_that_the_gateway_has_not(gateway: GatewayProcess, capsys: pytest.CaptureFixture[str]) -> None:
    said = await bench(capsys, gateway.url, "--model", "none", *SHORT)
    assert (said.code, said.out) == (4, "")
    assert said.err == [f"{gateway.url}: HTTP 404 model_not_found"]


async def test_a_table_for_people(server: Broken, capsys: pytest.CaptureFixture[str]) -> None:
    said = await bench(capsys, server.url, *SHORT)
    title, head, *rows = said.out.splitlines()
    assert title == f"{server.url}, model good"
    assert head.split()[:5] == ["CLIENTS", "PROMPT", "OUTPUT", "REQUESTS", "FAILED"]
    assert [row.split()[:5] for row in rows] == [["1", "12", "5", "4", "0"], ["3", "12", "5", "4", "0"]]


async def test_two_servers_beside_each_other(
    server: Broken, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    svg = tmp_path / "a.svg"
    async with Broken("good").running() as other:
        said = await bench(capsys, server.url, "--against", other.url, *SHORT, "--svg", str(svg))
    assert said.code == 0
    first, second = said.out.split("\n\n")
    assert "x FIRST" not in first
    assert "x FIRST" in second
    assert len(server.asked) == len(other.asked) == 1 + 2 * 4
    assert other.url in {element.text for element in ElementTree.parse(svg).iter()}


async def test_a_key_goes_to_no_other_address(
    server: Broken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLAMAPROXY_API_KEY", "ours")
    file = tmp_path / "key"
    file.write_text("theirs\n")
    async with Broken("good").running() as other:
        await bench(capsys, server.url, "--against", other.url, *SHORT)
        assert (server.keys, other.keys) == ({"Bearer ours"}, {None})
    async with Broken("good").running() as other:
        words = ["--against", other.url, "--against-key-file", str(file), "--key-file", str(file)]
        server.keys.clear()
        await bench(capsys, server.url, *words, *SHORT)
        assert (server.keys, other.keys) == ({"Bearer theirs"}, {"Bearer theirs"})


async def test_counts_that_nobody_told_have_a_tilde(server: Broken, capsys: pytest.CaptureFixture[str]) -> None:
    said = await bench(capsys, server.url, "--model", "countless", *SHORT)
    row = said.out.splitlines()[2].split()
    assert (row[1], row[5][0]) == ("~20", "~")
    assert any("does not count all its tokens" in line for line in said.err)


async def test_failures_are_told_and_are_the_exit_code(server: Broken, capsys: pytest.CaptureFixture[str]) -> None:
    said = await bench(capsys, server.url, "--model", "every-other", *SHORT, "--warmup", "0")
    assert said.code == 1
    assert said.out.splitlines()[2].split()[3:5] == ["4", "2"]
    assert f"{server.url}, 1 client: 2 requests failed: HTTP 500 upstream_error" in said.err


@pytest.mark.parametrize(("model", "code"), [("fails", 1), ("denied", 6), ("resets", 3), ("hangs", 7)])
async def test_nothing_is_measured_where_the_first_request_fails(
    server: Broken, model: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    said = await bench(capsys, server.url, "--model", model, *SHORT, "--timeout", "1")
    assert (said.code, said.out) == (code, "")
    assert said.err[0].startswith(f"{server.url}: ")


async def test_nobody_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert (await bench(capsys, "http://127.0.0.1:9")).code == 3


async def test_one_of_several_models_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    async with Broken("a", "b\x1b").running() as server:
        said = await bench(capsys, server.url)
    assert (said.code, len(server.asked)) == (2, 0)
    assert said.err == [f"{server.url} has 2 models, name one with --model: a, b\\x1b"]


@pytest.mark.parametrize("content", [b"", b"two words", b"two\nlines", b"\xff", b"k" * 5000, None])
async def test_a_key_file_that_is_none(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    said = await bench(capsys, "http://127.0.0.1:9", "--key-file", str(file))
    assert said.code == 78
    assert said.err[0].startswith(f"{file}: ")


@pytest.mark.parametrize("words", [["ftp://a"], ["http://127.0.0.1:9", "--against", "127.0.0.1:8080"]])
async def test_what_is_no_address(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    said = await bench(capsys, *words, "--model", "m")
    assert (said.code, said.out) == (2, "")
    assert "an address looks like" in said.err[0]


async def test_too_many_steps(capsys: pytest.CaptureFixture[str]) -> None:
    many = ",".join(map(str, range(1, 102)))
    said = await bench(capsys, "http://127.0.0.1:9", "--concurrency", many, "--prompt-tokens", "1,2")
    assert (said.code, said.err) == (78, ["202 steps are too many: at most 200"])


async def test_a_picture_that_cannot_be_written(
    server: Broken, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = await bench(capsys, server.url, *SHORT, "--svg", str(tmp_path))
    assert said.code == 1
    assert said.out.startswith(server.url)


@pytest.mark.parametrize(
    "words",
    [
        *(["--concurrency", "0"], ["--concurrency", "4097"], ["--concurrency", "1,,2"], ["--requests", "0"]),
        *(["--prompt-tokens", "x"], ["--seconds", "-1"], ["--timeout", "1e3"], ["--output-tokens", ""]),
    ],
)
def test_wrong_numbers(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["bench", *words])
    assert caught.value.code == 2


@pytest.mark.parametrize("manner", [[], ["--json"]])
async def test_interrupted_it_says_what_there_is(server: Broken, manner: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "llamaproxy", "bench", server.url, "--model", "second-hangs", "--warmup", "0"),
        *("--concurrency", "1", *manner),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    await asyncio.wait_for(server.arrived.wait(), PATIENCE)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, b"Traceback" in err) == (130, False)
    assert b"stopped" in err
    if manner:
        [step] = json.loads(out)["steps"]
        assert (step["stopped"], step["requests"], step["output_tokens"]) == (True, 1, 2)
    else:
        assert out.splitlines()[2].split()[3:5] == [b"1", b"0"]
