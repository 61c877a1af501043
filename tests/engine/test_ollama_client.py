"""What users of Ollama do: the ollama package, pointed at `server.ollama_port`, with a real model behind it."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import ollama
import openai
import pytest

from llamaproxy.backends.ports import free_port
from tests.gateway import Client, GatewayProcess

HELLO = [{"role": "user", "content": "Say hello."}]
SHORT = {"num_predict": 12, "temperature": 0, "seed": 1}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def gateway(binary: str, model_file: Path, tmp_path: Path, port: int) -> GatewayProcess:
    small = {"path": str(model_file), "ctx_size": 2048, "parallel": 2}
    vectors = {**small, "args": ["--embeddings", "--pooling", "mean"]}
    return GatewayProcess(
        tmp_path,
        {
            "server": {"port": 0, "ollama_port": port},
            "engine": {"binary": binary, "args": ["--threads", "1"]},
            "models": {"alpha": small, "vectors": vectors},
        },
    )


@pytest.fixture
async def client(gateway: GatewayProcess) -> AsyncIterator[Client]:
    async with gateway.running(), aiohttp.ClientSession() as session:
        yield Client(gateway, session)


@pytest.fixture
async def host(client: Client, port: int) -> str:
    """Of a gateway that runs."""
    return f"http://127.0.0.1:{port}"


@pytest.fixture
async def sdk(host: str) -> AsyncIterator[ollama.AsyncClient]:
    async with ollama.AsyncClient(host) as sdk:
        yield sdk


async def test_chat(sdk: ollama.AsyncClient, client: Client) -> None:
    answer = await sdk.chat("alpha:latest", HELLO, options=SHORT)
    assert answer.message.content
    assert (answer.done, answer.done_reason) == (True, "length")
    assert (answer.model, answer.eval_count) == ("alpha:latest", 12)
    durations = answer.total_duration, answer.load_duration, answer.prompt_eval_duration, answer.eval_duration
    assert all(durations)
    row, *_ = await client.rows()
    assert (row["endpoint"], row["dialect"], row["model"], row["state"]) == ("api/chat", "ollama", "alpha", "ok")
    assert (row["prompt_tokens"], row["completion_tokens"]) == (answer.prompt_eval_count, 12)


async def test_chat_comes_in_pieces_and_ends(sdk: ollama.AsyncClient, client: Client) -> None:
    whole = await sdk.chat("alpha", HELLO, options=SHORT)
    parts = [part async for part in await sdk.chat("alpha", HELLO, options=SHORT, stream=True)]
    assert len(parts) > 5
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert (parts[-1].eval_count, parts[-1].done_reason) == (12, "length")
    row, *_ = await client.rows()
    assert (row["stream"], row["completion_tokens"], row["state"]) == (True, 12, "ok")


async def test_generate_templated_and_raw(sdk: ollama.AsyncClient) -> None:
    answer = await sdk.generate("alpha", "Say hello.", system="You are brief.", options=SHORT)
    chat = await sdk.chat("alpha", [{"role": "system", "content": "You are brief."}, *HELLO], options=SHORT)
    assert answer.response == chat.message.content
    raw = [part async for part in await sdk.generate("alpha", "Once upon a", raw=True, options=SHORT, stream=True)]
    assert "".join(part.response or "" for part in raw).startswith(" time")
    assert raw[-1].eval_count == 12


async def test_format_is_kept_to(sdk: ollama.AsyncClient) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer", "maximum": 99}}, "required": ["age"]}
    answer = await sdk.chat("alpha", HELLO, format=schema, options={**SHORT, "num_predict": 40})
    assert re.fullmatch(r'\{\s*"age"\s*:\s*-?\d+\s*\}\s*', answer.message.content or "")
    loose = await sdk.generate("alpha", "A JSON object:", format="json", options=SHORT)
    assert (loose.response or "").lstrip().startswith(("{", "[", '"'))


async def test_tools_are_taken_and_their_results(sdk: ollama.AsyncClient) -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Bern"}}}
    turns: list[Any] = [
        *HELLO,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_name": "weather", "content": "rain"},
    ]
    answer = await sdk.chat("alpha", turns, tools=[WEATHER], options=SHORT)
    assert answer.message.content or answer.message.tool_calls


async def test_embeddings_new_and_old(sdk: ollama.AsyncClient) -> None:
    several = await sdk.embed("vectors", ["one", "two"])
    assert [len(vector) for vector in several.embeddings] == [576, 576]
    assert several.prompt_eval_count
    one = await sdk.embeddings("vectors", "one")
    assert list(one.embedding) == list(several.embeddings[0])
    with pytest.raises(ollama.ResponseError) as refused:
        await sdk.embed("alpha", "one")
    assert refused.value.status_code == 501


async def test_models_are_listed_and_shown_without_loading_any(sdk: ollama.AsyncClient, client: Client) -> None:
    first, second = (await sdk.list()).models
    assert (first.model, second.model) == ("alpha", "vectors")
    while not first.size:  # files are read while the gateway answers already
        first, _ = (await sdk.list()).models
    assert first.size > 50_000_000
    shown = await sdk.show("alpha")
    assert shown.details and (shown.details.format, shown.details.family) == ("gguf", "llama")
    assert shown.modelinfo and shown.modelinfo["llama.context_length"] == 2048
    assert shown.capabilities == ["completion", "tools"]
    assert (await sdk.show("vectors")).capabilities == ["embedding"]
    assert not client.gateway.children()


async def test_a_model_is_loaded_and_unloaded_by_empty_requests(sdk: ollama.AsyncClient, client: Client) -> None:
    assert (await sdk.ps()).models == []
    loaded = await sdk.generate("alpha")
    assert (loaded.done, loaded.done_reason, loaded.response) == (True, "load", "")
    running, *_ = (await sdk.ps()).models
    assert (running.name, running.context_length) == ("alpha", 2048)
    assert running.expires_at
    assert (await sdk.chat("alpha", keep_alive=0)).done_reason == "unload"
    await client.state_is("alpha", "stopped")


async def test_errors_are_the_ones_the_package_knows(sdk: ollama.AsyncClient) -> None:
    with pytest.raises(ollama.ResponseError) as missing:
        await sdk.chat("alpa", HELLO)
    assert missing.value.status_code == 404
    assert "alpha" in missing.value.error
    with pytest.raises(ollama.ResponseError) as long:
        async for _ in await sdk.generate("alpha", "one two three " * 1000, stream=True):
            raise AssertionError("there is no answer")
    assert long.value.status_code == 400
    assert "context size" in long.value.error, "the engine's own words"
    with pytest.raises(ollama.ResponseError) as pull:
        await sdk.pull("llama3")
    assert pull.value.status_code == 501
    assert (await sdk.pull("alpha")).status == "success"


async def test_client_that_leaves_a_stream_frees_its_slot(sdk: ollama.AsyncClient, client: Client) -> None:
    stream: Any = await sdk.chat("alpha", HELLO, options={"num_predict": 1500}, stream=True)
    await anext(stream)
    await stream.aclose()
    for _ in range(100):
        if not any(slot["is_processing"] for slot in await client.get("/slots?model=alpha")):
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("the slot is still busy")
    await client.settled()
    assert {row["state"] for row in await client.rows() if row["endpoint"] == "api/chat"} == {"client_abort"}


async def test_openai_routes_are_there_as_well(sdk: ollama.AsyncClient, host: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{host}/v1", api_key="ollama", max_retries=0) as other:
        assert [model.id async for model in other.models.list()] == ["alpha", "vectors"]
        answer = await other.completions.create(model="alpha", prompt="Once", max_tokens=4)
        assert answer.choices[0].text
