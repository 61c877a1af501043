"""Reloading under load: nothing is cut, only what changed is replaced, and a broken file changes nothing."""

import asyncio
import signal
from pathlib import Path
from typing import Any

from tests.faults.conftest import Start
from tests.gateway import Client, Table, fake_model, until

SLOW = {"FAKE_TOKEN_SECONDS": "0.02"}


def reloads(client: Client) -> int:
    return client.gateway.log.count("was reloaded:")


async def reload(client: Client) -> tuple[int, Any]:
    async with client.post("/api/reload", {}) as response:
        return response.status, await response.json()


async def test_removed_model_ends_its_stream_and_is_gone(start: Start, tmp_path: Path) -> None:
    gone, stays = (fake_model(tmp_path, name, env=SLOW) for name in ("gone", "stays"))
    async with start({"models": {"gone": gone, "stays": stays}}) as client:
        await client.chat("stays")
        async with client.stream("gone", max_tokens=40) as response:
            await response.content.readline()
            client.gateway.write({"models": {"stays": stays}})
            assert await reload(client) == (
                200,
                {"success": True, "added": [], "removed": ["gone"], "changed": []},
            )
            status, body = await client.chat("gone")
            assert (status, body["error"]["code"]) == (404, "model_not_found")
            assert b"[DONE]" in await response.read(), "what it was answering ended well"
        await until(lambda: len(client.gateway.children()) == 1, "its engine is gone")
        assert (await client.chat("stays"))[0] == 200
        assert client.gateway.spawns("stays") == 1, "nobody else noticed"


async def test_changed_model_answers_with_a_new_process_after_its_leases(start: Start, tmp_path: Path) -> None:
    model = fake_model(tmp_path, "m", env=SLOW)
    async with start({"models": {"m": model}}) as client, client.stream("m", max_tokens=40) as response:
        await response.content.readline()
        client.gateway.write({"models": {"m": {**model, "parallel": 3}}})
        assert (await reload(client))[1]["changed"] == ["m"]
        later = asyncio.gather(*(client.chat("m") for _ in range(5)))
        assert b"[DONE]" in await response.read()
        assert [status for status, _ in await later] == [200] * 5
        assert client.gateway.spawns() == 2
        assert len(client.gateway.children()) == 1


async def test_settings_of_the_scheduler_change_under_a_running_process(start: Start, tmp_path: Path) -> None:
    model = fake_model(tmp_path, "m")
    async with start({"models": {"m": model}}) as client:
        await client.chat("m")
        client.gateway.write({"models": {"m": {**model, "ttl": "50ms", "aliases": ["other"]}}})
        client.gateway.signal(signal.SIGHUP)
        await until(lambda: reloads(client) == 1, "the signal is heard")
        await client.state_is("m", "stopped")
        assert (await client.chat("other"))[0] == 200


async def test_broken_file_keeps_the_old_configuration_and_is_told(start: Start, tmp_path: Path) -> None:
    model = fake_model(tmp_path, "m")
    async with start({"models": {"m": model}}) as client:
        await client.chat("m")
        client.gateway.write({"models": {"m": {**model, "ctxsize": 1}}})
        fault = "models.m.ctxsize: unknown key, did you mean ctx_size?"
        await until(lambda: fault in client.gateway.log, "the change is seen without being told")
        health = await client.get("/api/health")
        assert (health["status"], health["config"]["error"]) == ("degraded", fault)
        status, body = await reload(client)
        assert (status, body["error"]["code"]) == (422, "invalid_configuration")
        assert (await client.chat("m"))[0] == 200
        client.gateway.write({"models": {"m": model}})
        await until(lambda: reloads(client) == 1, "mended")
        assert (await client.get("/api/health"))["status"] == "ok"
        assert client.gateway.spawns() == 1


async def test_hundred_reloads_in_a_row_under_load_lose_nothing(start: Start, tmp_path: Path) -> None:
    models: dict[str, Table] = {name: fake_model(tmp_path, name, env=SLOW) for name in "ab"}

    async def load(client: Client, model: str, stop: asyncio.Event) -> list[int]:
        statuses = []
        while not stop.is_set():
            async with client.stream(model, max_tokens=5) as response:
                assert b"[DONE]" in await response.read()
                statuses.append(response.status)
        return statuses

    async with start({"models": models}) as client:
        stop = asyncio.Event()
        clients = asyncio.gather(*(load(client, model, stop) for model in "aabb"))
        for number in range(100):
            changing = {"a": {**models["a"], "ttl": 1000 + number}, "b": {**models["b"], "threads": 1 + number // 25}}
            client.gateway.write({"models": changing, "limits": {"models_max": 2 + number % 2}})
            assert (await reload(client))[0] == 200
        stop.set()
        statuses = [status for some in await clients for status in some]
        assert set(statuses) == {200}
        assert client.gateway.spawns("a") == 1
        assert client.gateway.spawns("b") <= 5
        assert len(client.gateway.children()) == 2
