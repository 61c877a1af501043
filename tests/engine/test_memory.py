"""Memory budgets with real engines, whose memory is measured."""

import shutil
from pathlib import Path

import aiohttp
import pytest

from llamaproxy.backends.engine import bundled_model
from tests.gateway import Client, GatewayProcess, until

MIB = 1024**2


@pytest.fixture
def gateway(binary: str, model_file: Path, tmp_path: Path) -> GatewayProcess:
    """Two models of about 190 MiB each, of which only one fits the budget, and one that never does.

    Of a file that no other engine maps: of pages that it did, each would be told a part.
    """
    own = shutil.copyfile(model_file, tmp_path / "own.gguf")
    small = {"path": str(own), "ctx_size": 2048, "parallel": 1}
    return GatewayProcess(
        tmp_path,
        {
            "engine": {"binary": binary, "args": ["--threads", "1", "--cache-ram", "0"]},
            "limits": {"models_max": 3, "memory_budget": "320MiB"},
            "models": {"alpha": small, "beta": small, "huge": {**small, "ctx_size": 65_536}},
        },
    )


async def test_models_share_the_budget_in_turn(gateway: GatewayProcess) -> None:
    assert bundled_model()
    async with gateway.running(), aiohttp.ClientSession() as session:
        client = Client(gateway, session)
        assert (await client.chat("alpha", max_tokens=1))[0] == 200
        await until_measured(client, "alpha")
        assert (await client.chat("beta", max_tokens=1))[0] == 200
        assert (await client.model("alpha"))["state"] == "stopped", "there are places, and no memory"
        assert len(gateway.children()) == 1
        status, body = await client.chat("huge")
        assert (status, body["error"]["code"]) == (503, "model_out_of_memory")
        assert (await client.model("beta"))["state"] == "ready", "nobody was evicted for what cannot be"


async def until_measured(client: Client, name: str) -> None:
    model = await client.model(name)
    while not model["footprint"]["measured"]:
        model = await client.model(name)
    assert 150 * MIB < model["footprint"]["ram"] < 320 * MIB
    await until(lambda: len(client.gateway.children()) == 1, "it runs")
