"""llamaproxy.server.progress: how far requests in flight have come, as an operator sees it."""

import asyncio
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from llamaproxy.tasks import spawn
from tests.gateway import PATIENCE, chat_body, fake_model
from tests.server.conftest import Serve

Client = TestClient[Any, Any]


async def row(client: Client, phase: str, model: str = "") -> dict[str, Any]:
    """Of the only request in flight, or the only one for a model, once it is in this phase."""
    async with asyncio.timeout(PATIENCE):
        while True:
            asked = f"&model={model}" if model else ""
            rows = (await (await client.get(f"/api/requests?state=in_flight{asked}")).json())["requests"]
            if rows and rows[0]["phase"] == phase:
                found: dict[str, Any] = rows[0]
                return found
            await asyncio.sleep(0.01)


def begin(client: Client, **body: Any) -> "asyncio.Task[Any]":
    async def ask() -> None:
        async with client.post("/v1/chat/completions", json={**chat_body("m"), **body}) as response:
            await response.read()

    return spawn(ask(), name="ask")


async def left(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.wait({task})


async def test_from_the_queue_to_the_last_token(serve: Serve, tmp_path: Any) -> None:
    client = await serve(
        models={"m": fake_model(tmp_path, "m", env={"FAKE_LOAD_SECONDS": "1", "FAKE_TOKEN_SECONDS": "0.2"})}
    )
    asking = begin(client, stream=True, max_tokens=100)
    loading = await row(client, "loading")
    assert (loading["state"], loading["completion_tokens"]) == ("in_flight", None)
    first = await row(client, "generating")
    assert first["completion_tokens"] >= 1
    assert first["duration_ms"] > loading["duration_ms"] > 0
    assert (await (await client.get(f"/api/requests/{first['id']}")).json())["phase"] == "generating"
    await left(asking)


async def test_what_it_waited_divides_into_queue_and_load_before_it_ends(serve: Serve, tmp_path: Any) -> None:
    slow = fake_model(tmp_path, "m", env={"FAKE_LOAD_SECONDS": "1"})
    models = {"n": fake_model(tmp_path, "n", env={"FAKE_TOKEN_SECONDS": "0.05"}), "m": slow}
    client = await serve(models=models, limits={"models_max": 1, "linger": "0s"}, kv={"carry": False})
    first = begin(client, model="n", stream=True, max_tokens=20)
    await row(client, "generating")
    asking = begin(client)
    queued = await row(client, "queued", "m")
    assert (queued["queue_ms"], queued["load_ms"]) == (queued["duration_ms"], 0)
    loading = await row(client, "loading", "m")
    assert loading["queue_ms"] >= queued["queue_ms"]
    assert loading["queue_ms"] + loading["load_ms"] == pytest.approx(loading["duration_ms"])
    later = await row(client, "loading", "m")
    assert later["load_ms"] > loading["load_ms"]
    await left(first)
    await left(asking)


async def test_ended_rows_have_no_phase(serve: Serve) -> None:
    client = await serve()
    await client.post("/v1/chat/completions", json=chat_body("m"))
    (ended,) = (await (await client.get("/api/requests")).json())["requests"]
    assert "phase" not in ended
