"""What programs that know only LM Studio get at `server.lmstudio_port`, with a real model behind it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from llamaproxy.backends.ports import free_port
from tests.gateway import GatewayProcess, Table, chat_body

ASKED = {**chat_body("alpha"), "max_tokens": 3, "temperature": 0}


@pytest.fixture
async def session(binary: str, model_file: Path, tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """At the address of the listener."""
    port = free_port()
    config: dict[str, Table] = {
        "server": {"port": 0, "lmstudio_port": port},
        "engine": {"binary": binary, "args": ["--threads", "1"]},
        "models": {"alpha": {"path": str(model_file), "ctx_size": 2048, "parallel": 1}},
    }
    async with (
        GatewayProcess(tmp_path, config).running(),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        yield session


async def test_an_answer_says_how_fast_it_was(session: aiohttp.ClientSession) -> None:
    async with session.post("/api/v0/chat/completions", json=ASKED) as response:
        told = await response.json()
    assert told["usage"]["completion_tokens"] == 3
    assert told["stats"]["stop_reason"] == "maxPredictedTokensReached"
    assert all(told["stats"][key] > 0 for key in ("tokens_per_second", "time_to_first_token", "generation_time"))
    assert (told["model_info"]["arch"], told["model_info"]["context_length"]) == ("llama", 2048)
    assert told["runtime"]["version"]
    async with session.get("/api/v0/models/alpha") as response:
        model = await response.json()
    assert (model["type"], model["state"], model["loaded_context_length"]) == ("llm", "loaded", 2048)


async def test_a_stream_says_so_at_its_end(session: aiohttp.ClientSession) -> None:
    async with session.post("/api/v0/chat/completions", json={**ASKED, "stream": True}) as response:
        *events, done, rest = (await response.text()).split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    told = [json.loads(event.removeprefix("data: ")) for event in events]
    assert ["stats" in one for one in told] == [False] * (len(told) - 1) + [True]
    assert ["timings" in one for one in told] == ["stats" in one for one in told], "the others were not asked for"
    assert told[-1]["stats"]["tokens_per_second"] > 0
