"""Conversations over a swap on the real engines: what their own `timings` say was reused.

These fail when a newer engine saves, restores or clears its slots in another way.
"""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.gateway import Client, GatewayProcess, Table

pytestmark = pytest.mark.timeout(300)

TURN = "Each bee that leaves the hive comes back with a little more than it took. " * 90
"""About 1,500 tokens."""


def swapping(model_file: Path, binary: str) -> dict[str, Table]:
    """Two models of one file, of which one fits, with the four unified slots of an engine that is left to itself."""
    model = {"path": str(model_file), "ctx_size": 4096}
    return {
        "engine": {"binary": binary, "args": ["--threads", "1"]},
        "limits": {"models_max": 1},
        "models": {"alpha": model, "beta": model},
    }


async def talk(client: Client, *turns: str) -> dict[str, Any]:
    """The timings of the next answer of a conversation."""
    messages = [
        {"role": "assistant" if number % 2 else "user", "content": turn} for number, turn in enumerate((TURN, *turns))
    ]
    status, answer = await client.chat("alpha", messages=messages, max_tokens=4, temperature=0)
    assert status == 200, answer
    timings: dict[str, Any] = answer["timings"]
    return timings


async def evict(client: Client) -> None:
    assert (await client.chat("beta", max_tokens=1))[0] == 200


async def test_a_conversation_survives_a_swap(binary: str, model_file: Path, tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, swapping(model_file, binary))
    async with gateway.running(), aiohttp.ClientSession() as session:
        client = Client(gateway, session)
        prompt = (await talk(client))["prompt_n"]
        assert prompt > 1000
        # Another conversation must not cost the first one its slot. It is long: an engine puts what shares a tenth of
        # its prompt with another, as here the system prompt of the template, into that other one's slot.
        await client.chat("alpha", messages=[{"role": "user", "content": "wasps " * 300}], max_tokens=1)
        await evict(client)
        assert (await talk(client))["cache_n"] >= 0.95 * prompt
        await evict(client)
        assert (await talk(client, "Bees.", "Go on."))["cache_n"] >= 0.95 * prompt
        kv = (await client.model("alpha"))["kv"]
        assert kv["carry"] and kv["restored_tokens"] >= prompt
        assert "WARNING" not in gateway.log
