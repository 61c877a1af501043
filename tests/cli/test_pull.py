"""llamaproxy.cli.pull: what is said, and how it ends."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.cli.talking import Said, say
from tests.gateway import until
from tests.models.fakehub import REPOSITORY, TOKEN, FakeHub
from tests.models.hubs import model, sharded

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
async def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeHub]:
    monkeypatch.chdir(tmp_path)
    for variable in ("HF_TOKEN", "LLAMAPROXY_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    async with FakeHub({**sharded(tmp_path), "m-F16.gguf": model(tmp_path)}).running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "none"))
        monkeypatch.setenv("LLAMAPROXY_CATALOG__MODELS_DIR", str(tmp_path / "models"))
        yield hub


async def pull(capsys: pytest.CaptureFixture[str], *words: str, url: str = NOBODY) -> Said:
    return await say(capsys, url, "pull", *words)


async def test_a_model_without_a_gateway(fake: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = await pull(capsys, f"{REPOSITORY}:Q8_0", "--name", "tiny")
    assert said.code == 0, said.err
    names = said.out.split()
    assert len(names) == 3
    assert {str(path) for path in (tmp_path / "models" / "tiny").glob("*.gguf")} == set(names)
    assert said.err[-1] == "the model is called tiny"
    again = await pull(capsys, f"{REPOSITORY}:Q8_0", "--name", "tiny")
    assert (again.code, again.out) == (0, said.out)


async def test_a_gateway_is_told_to_look(fake: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []

    async def reload(request: web.Request) -> web.Response:
        told.append(request.path)
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/api/reload", reload)
    async with TestServer(app) as gateway:
        said = await pull(capsys, f"{REPOSITORY}:F16", url=str(gateway.make_url("")).rstrip("/"))
    assert (said.code, told) == (0, ["/api/reload"])


async def test_a_list_for_people(fake: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    fake.told["\x1b[31mred.gguf"] = {}
    said = await pull(capsys, REPOSITORY, "--list")
    assert said.code == 0
    assert said.out.split()[:4] == ["QUANT", "SIZE", "FILES", "FITS"]
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == ["F16", "Q8_0"]
    assert "\x1b" not in said.out + "".join(said.err)


async def test_a_list_for_programs(fake: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    said = await pull(capsys, REPOSITORY, "--list", "--json")
    document = json.loads(said.out)
    assert document["schema_version"] == 1
    assert [one["fit"]["fits"] for one in document["quantisations"]] == ["yes", "yes"]


async def test_what_would_be_done(fake: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = await pull(capsys, f"{REPOSITORY}:F16", "--dry-run", "--json")
    document = json.loads(said.out)
    assert (document["name"], document["files"], document["there"]) == ("m-F16", ["m-F16.gguf"], False)
    assert (await pull(capsys, f"{REPOSITORY}:F16", "--dry-run")).code == 0
    assert not (tmp_path / "models").exists()


async def test_progress_for_programs(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("llamaproxy.cli.pull._EVERY", {True: 0.01, False: 0.01})

    async def slow(path: str, request: web.Request) -> web.Response:
        await asyncio.sleep(0.1)
        return fake.part(path, request)

    fake.storage = slow
    said = await pull(capsys, f"{REPOSITORY}:F16", "--json")
    told = [json.loads(line) for line in said.out.splitlines()]
    assert {one["event"] for one in told[:-1]} == {"progress"}
    assert (told[-1]["event"], told[-1]["name"]) == ("done", "m-F16")


async def test_ends_that_scripts_can_tell(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (await pull(capsys, "nonsense")).code == 2
    assert (await pull(capsys, REPOSITORY)).code == 2
    assert (await pull(capsys, f"{REPOSITORY}:F16", "--name", "../x")).code == 2
    assert (await pull(capsys, "org/other")).code == 4
    assert (await pull(capsys, f"{REPOSITORY}:Q2_K")).code == 4
    assert (await pull(capsys, f"{REPOSITORY}:F16", "--name", "x")).code == 0
    assert (await pull(capsys, f"{REPOSITORY}:Q8_0", "--name", "x")).code == 5
    fake.gated = True
    assert (await pull(capsys, f"{REPOSITORY}:F16", "--name", "y")).code == 6
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert (await pull(capsys, f"{REPOSITORY}:F16", "--name", "y")).code == 0
    fake.refusals = [web.Response(status=500)]
    assert (await pull(capsys, f"{REPOSITORY}:F16", "--name", "z")).code == 1
    monkeypatch.delenv("LLAMAPROXY_CATALOG__MODELS_DIR")
    told = await pull(capsys, f"{REPOSITORY}:F16", "--name", "z")
    assert (told.code, "--dir" in told.err[-1]) == (78, True)


async def test_ctrl_c_keeps_what_came(fake: FakeHub, tmp_path: Path) -> None:
    """In a process of its own: a signal is for all of it."""

    async def never(path: str, request: web.Request) -> Any:
        if "00003-of" in path:
            await asyncio.Event().wait()
        return None

    fake.storage = never
    words = (sys.executable, "-m", "llamaproxy", "pull", f"{REPOSITORY}:Q8_0", "--name", "tiny", "--url", NOBODY)
    process = await asyncio.create_subprocess_exec(
        *words, env={**os.environ}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        gathered = tmp_path / "models" / ".pulling" / "tiny" / "tiny"
        await until(lambda: len(list(gathered.glob("*.gguf"))) == 2, "two shards are there")
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 130
    assert b"goes on where" in err
    assert b"Traceback" not in err
    assert len(list(gathered.glob("*.gguf"))) == 2
