"""A real engine behind a command of the operator's, and behind a second gateway that is a server elsewhere."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from llamaproxy.backends.engine import EMBEDDED_MODULE
from llamaproxy.backends.ports import free_port
from tests.gateway import Client, GatewayProcess, Table, until

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Say hello."}]


@asynccontextmanager
async def client_of(gateway: GatewayProcess) -> AsyncIterator[Client]:
    async with gateway.running(), aiohttp.ClientSession() as session:
        yield Client(gateway, session)


@pytest.fixture(params=[("--host", "${socket}"), ("--host", "127.0.0.1", "--port", "${port}")], ids=["socket", "port"])
def command(request: pytest.FixtureRequest, binary: str, model_file: Path) -> list[str]:
    program = [sys.executable, "-m", EMBEDDED_MODULE] if binary == "embedded" else [binary]
    return [*program, "-m", str(model_file), "-c", "2048", "-np", "2", "--alias", "${name}", *request.param]


@pytest.fixture
async def client(command: list[str], tmp_path: Path) -> AsyncIterator[Client]:
    """An engine by command, in a gateway that has no engine of its own; before it another gateway, which guards it."""
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.mkdir()
    outer.mkdir()
    nothing = {"binary": "/nowhere/llama-server"}
    near: dict[str, Table] = {"engine": nothing, "models": {"smol": {"command": command}}}
    async with client_of(GatewayProcess(inner, near)) as behind:
        url = behind.gateway.url + "/v1"
        models = {"far": {"url": url, "upstream_name": "smol", "aliases": ["gpt-4o"]}}
        async with client_of(GatewayProcess(outer, {"engine": nothing, "models": models})) as before:
            yield before


async def test_the_openai_package_through_two_gateways(client: Client) -> None:
    async with openai.AsyncOpenAI(base_url=client.gateway.url + "/v1", api_key="mine", max_retries=0) as sdk:
        answer = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, max_tokens=6, temperature=0)
        assert answer.choices[0].message.content
        assert answer.model == "smol"
        stream = await sdk.chat.completions.create(
            model="far", messages=HELLO, max_tokens=6, temperature=0, stream=True
        )
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(pieces) == answer.choices[0].message.content
        assert [model.id async for model in sdk.models.list()] == ["far"]
        with pytest.raises(openai.BadRequestError) as too_long:
            await sdk.completions.create(model="far", prompt="one two three " * 2000, max_tokens=4)
        assert "context size" in too_long.value.message
    assert not client.gateway.children(), "nothing of it runs here"


@pytest.fixture
async def router(model_file: Path, tmp_path: Path) -> AsyncIterator[str]:
    """The address of a llama-server in router mode with the models `one` and `two`."""
    binary = shutil.which("llama-server")
    if not binary:
        pytest.skip("no llama-server on PATH")
    models = tmp_path / "models"
    models.mkdir()
    for name in ("one", "two"):
        (models / f"{name}.gguf").symlink_to(model_file)
    port = free_port()
    listen = ("--host", "127.0.0.1", "--port", str(port))
    words = (*listen, "--models-dir", str(models), "--models-max", "1", "-c", "1024")
    log_file = tmp_path / "router.log"
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(binary, *words, stdout=log, stderr=log)
    try:
        await until(lambda: b"listening" in log_file.read_bytes(), "the router listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def test_a_router_of_llama_server_is_one_server_with_many_models(router: str, tmp_path: Path) -> None:
    models = {f"my-{name}": {"url": router, "upstream_name": name} for name in ("one", "two")}
    async with client_of(GatewayProcess(tmp_path, {"models": models})) as client:
        for name in ("two", "one"):
            status, body = await client.chat(f"my-{name}", max_tokens=2)
            assert (status, body["model"]) == (200, name)
        assert (await client.get("/props?model=my-one"))["model_alias"] == "one"
