"""llamaproxy.server.keyroutes: /api/keys in a whole gateway, and what keys may reach."""

from pathlib import Path
from typing import Any

import openai
import pytest

from llamaproxy.errors import ConfigError
from llamaproxy.server.guard import fingerprint
from tests.gateway import chat_body
from tests.server.conftest import Serve

ADMIN = {"Authorization": "Bearer lp-root"}
KEYS = {
    "root": {"sha256": fingerprint("lp-root"), "admin": True},
    "alice": {"sha256": fingerprint("lp-alice"), "models": ["m"]},
}
CHAT = "/v1/chat/completions"


async def test_made_used_listed_revoked(serve: Serve) -> None:
    client = await serve(keys=KEYS)
    wanted = {"name": "team/bob", "rpm": 10, "expires": "30d"}
    made = await client.post("/api/keys", json=wanted, headers=ADMIN)
    assert made.status == 201
    key = (await made.json())["key"]
    for shown in ({"Authorization": f"Bearer {key}"}, {"x-api-key": key}):
        answer = await client.post(CHAT, json=chat_body("m"), headers=shown)
        assert answer.status == 200
    listed = await (await client.get("/api/keys", headers=ADMIN)).json()
    sources = {one["name"]: one["source"] for one in listed["keys"]}
    assert sources == {"root": "configured", "alice": "configured", "team/bob": "stored"}
    assert key not in str(listed)
    assert fingerprint(key) not in str(listed)
    rows = (await (await client.get("/api/requests", headers=ADMIN)).json())["requests"]
    assert [row["key"] for row in rows] == ["team/bob", "team/bob"]
    gone = await client.delete("/api/keys/team%2Fbob", headers=ADMIN)
    assert gone.status == 200
    refused = await client.post(CHAT, json=chat_body("m"), headers={"x-api-key": key})
    assert (refused.status, (await refused.json())["error"]["code"]) == (401, "invalid_api_key")


async def test_a_plain_key_makes_none(serve: Serve) -> None:
    client = await serve(keys=KEYS)
    shown = {"x-api-key": "lp-alice"}
    assert (await client.post("/api/keys", json={"name": "x"}, headers=shown)).status == 403
    assert (await client.get("/api/keys", headers=shown)).status == 403
    assert (await client.delete("/api/keys/root", headers=shown)).status == 403
    assert (await client.post("/models/load", json={"model": "m"}, headers=shown)).status == 403


async def test_without_a_database_too(serve: Serve) -> None:
    client = await serve(keys=KEYS, telemetry={"database": "off"})
    assert (await client.post("/api/keys", json={"name": "bob"}, headers=ADMIN)).status == 201


async def test_a_key_that_another_gateway_made_is_good_after_a_reload(serve: Serve, tmp_path: Path) -> None:
    server = {"keys_file": str(tmp_path / "shared.json")}
    one, other = await serve(keys=KEYS, server=server), await serve(keys=KEYS, server=server)
    made = await one.post("/api/keys", json={"name": "bob"}, headers=ADMIN)
    shown = {"x-api-key": (await made.json())["key"]}
    assert (await other.get("/v1/models", headers=shown)).status == 401
    assert (await other.post("/api/reload", json={}, headers=ADMIN)).status == 200
    assert (await other.get("/v1/models", headers=shown)).status == 200


async def test_keys_made_at_run_time_have_their_names_in_metrics(serve: Serve) -> None:
    client = await serve(keys=KEYS)
    made = await client.post("/api/keys", json={"name": "bob"}, headers=ADMIN)
    shown = {"x-api-key": (await made.json())["key"]}
    asked = await client.post("/v1/completions", json={"model": "m", "prompt": "x", "max_tokens": 2}, headers=shown)
    assert asked.status == 200
    page = await (await client.get("/metrics", headers=ADMIN)).text()
    assert 'key="bob"' in page
    assert 'key="other"' not in page


async def test_a_broken_file_of_keys_stops_the_start(serve: Serve, tmp_path: Path) -> None:
    """Without its keys the gateway would stand open."""
    broken = tmp_path / "broken.json"
    broken.touch()
    with pytest.raises(ConfigError, match=r"broken\.json"):
        await serve(server={"keys_file": str(broken)})


async def test_the_first_key_closes_an_open_gateway(serve: Serve) -> None:
    client = await serve()
    made = await client.post("/api/keys", json={"name": "bob"})
    assert (await client.get("/v1/models")).status == 401
    shown = {"x-api-key": (await made.json())["key"]}
    assert (await client.delete("/api/keys/bob", headers=shown)).status == 200
    assert (await client.get("/v1/models")).status == 200


@pytest.mark.parametrize(
    ("body", "status"), [("[]", 400), ("{", 400), ('{"name": "a b"}', 400), ('{"name": "root"}', 409)]
)
async def test_bodies_that_make_no_key(serve: Serve, body: str, status: int) -> None:
    client = await serve(keys=KEYS)
    headers = {**ADMIN, "Content-Type": "application/json"}
    assert (await client.post("/api/keys", data=body, headers=headers)).status == status
    form = await client.post("/api/keys", data={"name": "x"}, headers=ADMIN)
    assert form.status == 415


async def test_keys_that_are_not_to_be_revoked_here(serve: Serve) -> None:
    client = await serve(keys=KEYS)
    configured = await client.delete("/api/keys/alice", headers=ADMIN)
    assert configured.status == 400
    assert "configuration" in (await configured.json())["error"]["message"]
    assert (await client.delete("/api/keys/nobody", headers=ADMIN)).status == 404


async def test_other_methods_are_told(serve: Serve) -> None:
    client = await serve(keys=KEYS)
    assert (await client.put("/api/keys", headers=ADMIN)).status == 405
    assert (await client.put("/api/keys/alice", headers=ADMIN)).status == 405


class TestModels:
    """`alice` may use m only."""

    SHOWN = "lp-alice"

    async def test_it_sees_no_other(self, serve: Serve) -> None:
        client = await serve(keys=KEYS)
        for path in ("/v1/models", "/models"):
            listed = await (await client.get(path, headers={"x-api-key": self.SHOWN})).json()
            assert [model["id"] for model in listed["data"]] == ["m"]
        assert (await client.get("/v1/models/m", headers={"x-api-key": self.SHOWN})).status == 200
        assert (await client.get("/v1/models/org/n", headers={"x-api-key": self.SHOWN})).status == 403

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", CHAT, chat_body("org/n")),
            ("POST", "/tokenize", {"model": "org/n", "content": "x"}),
            ("GET", "/props?model=org/n", None),
            ("GET", "/upstream/org/n/props", None),
            ("POST", "/upstream/org%2Fn/v1/chat/completions", chat_body("m")),
        ],
    )
    async def test_it_reaches_no_other_on_any_way(self, serve: Serve, method: str, path: str, body: Any) -> None:
        client = await serve(keys=KEYS)
        answer = await client.request(method, path, json=body, headers={"x-api-key": self.SHOWN})
        assert (answer.status, (await answer.json())["error"]["code"]) == (403, "model_not_allowed")
        models = (await (await client.get("/api/models", headers=ADMIN)).json())["models"]
        assert [model["starts"] for model in models] == [0, 0], "and starts none"

    async def test_nor_by_a_websocket(self, serve: Serve) -> None:
        client = await serve(keys=KEYS)
        wanted = {
            **{"x-api-key": self.SHOWN, "Connection": "Upgrade", "Upgrade": "websocket"},
            **{"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="},
        }
        assert (await client.get("/upstream/org/n/ws", headers=wanted)).status == 403

    async def test_the_openai_package_knows_the_errors(self, serve: Serve) -> None:
        client = await serve(keys=KEYS)
        base = str(client.make_url("/v1"))
        async with openai.AsyncOpenAI(base_url=base, api_key=self.SHOWN, max_retries=0) as sdk:
            with pytest.raises(openai.PermissionDeniedError) as denied:
                await sdk.embeddings.create(model="org/n", input="x")
            assert denied.value.code == "model_not_allowed"
        async with openai.AsyncOpenAI(base_url=base, api_key="lp-none", max_retries=0) as sdk:
            with pytest.raises(openai.AuthenticationError):
                await sdk.models.list()
