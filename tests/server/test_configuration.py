"""llamaproxy.server.configuration: the configuration as it is shown and changed, on the whole gateway."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from llamaproxy.tasks import spawn
from tests.gateway import Client, GatewayProcess, chat_body, fake_model
from tests.server.conftest import Serve

SECRET = "hunter2-very-secret"


async def test_what_keys_mean(serve: Serve) -> None:
    client = await serve()
    schema = await (await client.get("/api/config/schema")).json()
    limits = schema["$defs"][schema["properties"]["limits"]["$ref"].rpartition("/")[2]]["properties"]
    shown = await (await client.get("/api/config")).json()
    assert limits.keys() == shown["config"]["limits"].keys()
    assert limits["models_max"]["description"].startswith("most backends alive")
    assert (limits["models_max"]["minimum"], limits["models_max"]["maximum"]) == (1, 1000)


async def test_where_values_come_from(tmp_path: Path) -> None:
    models = {"m": fake_model(tmp_path, "m", env={"HF_TOKEN": SECRET}, ttl="5m")}
    made = GatewayProcess(
        tmp_path, {"models": models, "limits": {"models_max": 3}}, {"LLAMAPROXY_LIMITS__MAX_WAIT": "7s"}
    )
    async with made.running(), aiohttp.ClientSession() as session:
        client = Client(made, session)
        shown = await client.get("/api/config")
        assert shown["file"] == str(tmp_path / "llamaproxy.toml")
        limits, origins = shown["config"]["limits"], shown["origins"]["limits"]
        assert (limits["models_max"], origins["models_max"]) == (3, "file")
        assert (limits["max_wait"], origins["max_wait"]) == (7, "environment")
        assert (limits["queue_size"], origins["queue_size"]) == (512, "default")
        assert (shown["config"]["models"]["m"]["ttl"], shown["origins"]["models"]["m"]["ttl"]) == (300, "file")
        assert SECRET not in str(shown)
        one = await client.get("/api/models/m")
        assert (one["config"]["ttl"], one["origins"]["ttl"], one["origins"]["pinned"]) == (300, "file", "default")
        assert (one["config"]["env"]["HF_TOKEN"], one["origins"]["env"]["HF_TOKEN"]) == ("***", "file")
        async with session.patch(f"{made.url}/api/settings", json={"limits": {"models_max": 4}}) as response:
            changed = await response.json()
        assert changed["settings"]["limits"]["models_max"] == 4
        assert changed["origins"]["limits"]["models_max"] == "runtime"
        async with client.post("/api/reload", {}) as response:
            assert await response.json() == {"success": True, "added": [], "removed": [], "changed": []}
        settings = await client.get("/api/settings")
        assert settings["settings"]["limits"]["models_max"] == 3, "it lasts until the next reload"
        assert settings["origins"]["limits"]["models_max"] == "file"


async def test_a_setting_is_in_force_at_once(serve: Serve, tmp_path: Path) -> None:
    client = await serve(
        models={name: fake_model(tmp_path, name, env={"FAKE_TOKEN_SECONDS": "0.02"}) for name in ("a", "b")},
        limits={"models_max": 1, "max_wait": "1h"},
    )
    stream = await client.post("/v1/chat/completions", json={**chat_body("a"), "stream": True, "max_tokens": 10_000})
    waiting = spawn(client.post("/v1/chat/completions", json={**chat_body("b"), "max_tokens": 1}), name="ask")
    while not (await (await client.get("/api/models/b")).json())["queued"]:
        assert not waiting.done()
        await asyncio.sleep(0.005)
    response = await client.patch("/api/settings", json={"limits": {"models_max": 2}})
    assert response.status == 200
    assert (await waiting).status == 200
    stream.close()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"limits": {"models_max": 0}}, "limits.models_max"),
        ({"limits": {"modles_max": 1}}, "limits.modles_max"),
        ({"engine": {"binary": "/bin/sh"}}, "engine"),
        ({"models": {}}, "models"),
        ({"telemetry": {"log_level": "loud"}}, "telemetry.log_level"),
    ],
    ids=str,
)
async def test_what_cannot_be_changed_changes_nothing(serve: Serve, body: Any, param: str) -> None:
    client = await serve()
    before = await (await client.get("/api/settings")).json()
    response = await client.patch("/api/settings", json={"breaker": {"open": 5}, **body})
    assert response.status == 400
    assert (await response.json())["error"]["param"] == param
    assert await (await client.get("/api/settings")).json() == before


async def test_a_foreign_page_changes_nothing(serve: Serve) -> None:
    client = await serve()
    for headers in ({"Origin": "https://evil.test"}, {"Sec-Fetch-Site": "cross-site"}):
        response = await client.patch("/api/settings", json={"limits": {"models_max": 9}}, headers=headers)
        assert (response.status, (await response.json())["error"]["code"]) == (403, "forbidden_origin")
    assert (await (await client.get("/api/settings")).json())["settings"]["limits"]["models_max"] == 2
