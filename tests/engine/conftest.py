"""The real gateway on a real engine: the embedded one always, llama-server where it is on PATH."""

import importlib.util
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import openai
import pytest

from llamaproxy.backends.engine import bundled_model
from tests.gateway import EMPTY_GGUF, Client, GatewayProcess, Table

ENGINES = [
    pytest.param(
        "embedded",
        id="embedded",
        marks=pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed"),
    ),
    pytest.param(
        shutil.which("llama-server") or "",
        id="llama-server",
        marks=pytest.mark.skipif(shutil.which("llama-server") is None, reason="no llama-server on PATH"),
    ),
]


@pytest.fixture(scope="session")
def model_file() -> Path:
    found = bundled_model()
    if not found:
        pytest.skip("the bundled model is not installed")
    return found


@pytest.fixture(params=ENGINES)
def binary(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture
def gateway(binary: str, model_file: Path, tmp_path: Path) -> GatewayProcess:
    """Three models of one file; two do not fit together."""
    small = {"path": str(model_file), "ctx_size": 2048, "parallel": 2}
    models = {
        "alpha": {**small, "aliases": ["gpt-4o-mini"]},
        "beta": small,
        "vectors": {**small, "args": ["--embeddings", "--pooling", "mean"]},
    }
    junk = tmp_path / "junk.gguf"
    with model_file.open("rb") as whole:
        junk.write_bytes(whole.read(1_000_000))
    odd = tmp_path / "odd.gguf"
    odd.write_bytes(EMPTY_GGUF)
    broken = {path.stem: {"path": str(path)} for path in (junk, odd, tmp_path / "gone.gguf")}
    config: dict[str, Table] = {
        "engine": {"binary": binary, "args": ["--threads", "1"]},
        "limits": {"models_max": 1},
        "models": {**models, **broken},
    }
    return GatewayProcess(tmp_path, config)


@pytest.fixture
async def client(gateway: GatewayProcess) -> AsyncIterator[Client]:
    async with gateway.running(), aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield Client(gateway, session)


@pytest.fixture
async def sdk(client: Client) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=client.gateway.url + "/v1", api_key="unused", max_retries=0) as sdk:
        yield sdk
