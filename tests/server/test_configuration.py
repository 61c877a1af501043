"""llamaproxy.server.configuration: the configuration as it is shown and changed, on the whole gateway."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from llamaproxy.server.guard import fingerprint
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


class TestEditing:
    async def patch(self, client: Any, body: Any) -> tuple[int, Any]:
        response = await client.patch("/api/config", json=body)
        return response.status, await response.json()

    async def test_it_is_in_force_shown_and_kept(self, serve: Serve, tmp_path: Path) -> None:
        file = tmp_path / "c.toml"
        client = await serve(file, limits={"models_max": 3})
        status, shown = await self.patch(
            client, {"limits": {"models_max": 4, "max_wait": "9s"}, "kv": {"carry": False}}
        )
        assert (status, shown["restart_required"]) == (200, [])
        assert (shown["config"]["limits"]["models_max"], shown["config"]["limits"]["max_wait"]) == (4, 9)
        assert (shown["origins"]["limits"]["models_max"], shown["origins"]["limits"]["linger"]) == ("edited", "default")
        assert (shown["editable"]["limits"]["models_max"], shown["editable"]["engine"]["binary"]) == (True, False)
        assert shown == await (await client.get("/api/config")).json()
        stored = tmp_path / "state" / "llamaproxy" / "edits.toml"
        assert stored.stat().st_mode & 0o777 == 0o600
        again = await serve(file, limits={"models_max": 3})
        assert (await (await again.get("/api/config")).json())["config"]["limits"]["models_max"] == 4
        status, shown = await self.patch(client, {"limits": {"models_max": None}})
        assert (shown["config"]["limits"]["models_max"], shown["origins"]["limits"]["models_max"]) == (3, "file")

    async def test_of_many_at_once_none_is_lost(self, serve: Serve, tmp_path: Path) -> None:
        one, other = await serve(tmp_path / "c.toml"), await serve(tmp_path / "c.toml")
        sections = [
            ("limits", "queue_size", 7),
            ("breaker", "open", 5),
            ("kv", "save_timeout", 3),
            ("limits", "max_wait", 2),
        ]
        told = [self.patch(client, {s: {k: v}}) for (s, k, v), client in zip(sections, (one, other) * 2, strict=True)]
        assert {status for status, _ in await asyncio.gather(*told)} == {200}
        _, shown = await self.patch(one, {})
        assert [shown["config"][section][key] for section, key, _ in sections] == [7, 5, 3, 2]

    async def test_an_address_waits_for_a_restart(self, serve: Serve, tmp_path: Path) -> None:
        file = tmp_path / "c.toml"
        client = await serve(file, server={"port": 9999})
        file.write_text(file.read_text().replace("9999", "9998"))
        assert (await client.post("/api/reload", json={})).status == 200
        shown = await (await client.get("/api/config")).json()
        assert (shown["restart_required"], shown["config"]["server"]["port"]) == (["server.port"], 9999)
        assert shown["editable"]["server"]["port"] is False, "the command line asks the file where we are"

    async def test_what_the_environment_fixes(
        self, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LLAMAPROXY_LIMITS__MAX_WAIT", "7s")
        client = await serve(tmp_path / "c.toml")
        await client.patch("/api/settings", json={"limits": {"max_wait": 1}})
        status, answer = await self.patch(client, {"limits": {"max_wait": 5, "queue_size": 9}})
        assert (status, answer["error"]["param"]) == (409, "limits.max_wait")
        assert "LLAMAPROXY_LIMITS__MAX_WAIT" in answer["error"]["message"]
        shown = await (await client.get("/api/config")).json()
        assert shown["config"]["limits"]["queue_size"] == 512, "nothing of it is changed"
        assert shown["editable"]["limits"]["max_wait"] is False

    @pytest.mark.parametrize(
        "body",
        [
            {"engine": {"binary": "/bin/sh"}},
            {"engine": {"args": ["--rpc"]}},
            {"engine": {"allow_unsafe_args": True}},
            {"server": {"host": "0.0.0.0"}},
            {"server": {"port": 9998}},
            {"server": {"allowed_origins": ["https://evil.test"]}},
            {"server": {"edits_file": "/etc/cron.d/x"}},
            {"catalog": {"models_dir": "/"}},
            {"telemetry": {"database": "/etc/x"}},
            {"models": {"m": {"command": ["sh"]}}},
            {"keys": {"me": {"admin": True}}},
            {"limits": {"models_max": 0}},
            {"limits": 5},
        ],
        ids=str,
    )
    async def test_what_is_refused_changes_nothing(self, serve: Serve, tmp_path: Path, body: Any) -> None:
        client = await serve(tmp_path / "c.toml")
        assert (await self.patch(client, {"breaker": {"open": 5}, **body}))[0] == 400
        assert (await (await client.get("/api/config")).json())["config"]["breaker"]["open"] == 10
        assert not (tmp_path / "state" / "llamaproxy" / "edits.toml").exists()

    async def test_a_place_that_cannot_be_written_is_told(self, serve: Serve, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        client = await serve(tmp_path / "c.toml", server={"edits_file": str(tmp_path / "file" / "edits.toml")})
        status, answer = await self.patch(client, {"limits": {"queue_size": 9}})
        assert (status, "server.edits_file" in answer["error"]["message"]) == (422, True)
        assert (await (await client.get("/api/config")).json())["config"]["limits"]["queue_size"] == 512

    async def test_beside_a_broken_file_nothing_is_edited(self, serve: Serve, tmp_path: Path) -> None:
        file = tmp_path / "c.toml"
        client = await serve(file)
        good = file.read_text()
        file.write_text("[sever]")
        status, answer = await self.patch(client, {"limits": {"queue_size": 9}})
        assert (status, "sever" in answer["error"]["message"]) == (422, True)
        file.write_text(good)
        assert (await self.patch(client, {"limits": {"queue_size": 9}}))[1]["config"]["limits"]["queue_size"] == 9

    async def test_keys_of_others_edit_nothing(self, serve: Serve, tmp_path: Path) -> None:
        keys = {"root": {"sha256": "0" * 64, "admin": True}, "alice": {"sha256": fingerprint("lp-alice")}}
        client = await serve(tmp_path / "c.toml", keys=keys)
        for headers, expected in (({}, 401), ({"x-api-key": "lp-alice"}, 403)):
            response = await client.patch("/api/config", json={"limits": {"queue_size": 9}}, headers=headers)
            assert response.status == expected
