"""Ollama's routes: who may come in, what goes to the engine, and how what goes wrong is told."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from llamaproxy.server.guard import fingerprint
from tests.gateway import fake_model, until
from tests.server.conftest import Beside, Serve

HELLO = [{"role": "user", "content": "Hello"}]
SHORT = {"num_predict": 3}
Http = TestClient[Any, Any]


async def both(serve: Serve, beside: Beside, **sections: Any) -> tuple[Http, Http]:
    """The gateway's own listener, and Ollama's."""
    sections["server"] = {"ollama_port": 11434, **sections.get("server", {})}
    own = await serve(**sections)
    return own, await beside(own, "ollama_port")


async def rows(own: Http) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await (await own.get("/api/requests")).json())["requests"]
    return found


async def lines(client: Http, path: str, body: Any) -> list[dict[str, Any]]:
    async with client.post(path, json=body) as response:
        assert (response.status, response.content_type) == (200, "application/x-ndjson")
        return [json.loads(line) async for line in response.content]


async def error_of(client: Http, path: str, method: str = "POST", **request: Any) -> tuple[int, str]:
    async with client.request(method, path, **request) as response:
        said = await response.json()
        assert list(said) == ["error"]
        return response.status, said["error"]


async def test_it_is_off_by_default(serve: Serve, beside: Beside) -> None:
    with pytest.raises(KeyError):
        await beside(await serve(), "ollama_port")


async def test_it_says_that_it_runs(serve: Serve, beside: Beside) -> None:
    _, front = await both(serve, beside)
    assert await (await front.get("/")).text() == "Ollama is running"
    assert (await front.head("/")).status == 200
    version = (await (await front.get("/api/version")).json())["version"]
    assert [part.isdecimal() for part in version.split(".")] == [True] * 3


async def test_a_chat_streams_unless_told_otherwise(serve: Serve, beside: Beside) -> None:
    own, front = await both(serve, beside)
    *parts, last = await lines(front, "/api/chat", {"model": "m", "messages": HELLO, "options": SHORT})
    assert [part["done"] for part in parts] == [False] * 3
    assert (last["done"], last["done_reason"], last["eval_count"]) == (True, "length", 3)
    body = {"model": "m:latest", "messages": HELLO, "options": SHORT, "stream": False}
    async with front.post("/api/chat", json=body) as response:
        assert (response.status, response.content_type) == (200, "application/json")
        assert response.headers["x-llamaproxy-model"] == "m"
        whole = await response.json()
    text = "".join(part["message"]["content"] for part in parts)
    assert whole["message"]["content"].split() == text.split()
    newest, oldest = await rows(own)
    assert (oldest["endpoint"], oldest["dialect"], oldest["stream"]) == ("api/chat", "ollama", True)
    assert (newest["stream"], newest["completion_tokens"], newest["state"]) == (False, 3, "ok")
    assert newest["bytes_in"] and newest["bytes_out"] == len(json.dumps(whole, separators=(",", ":")))


async def test_prompts_go_the_way_that_fits_them(serve: Serve, beside: Beside, tmp_path: Path) -> None:
    own, front = await both(serve, beside)
    asked = {"model": "m", "prompt": "Once", "options": SHORT}
    for more in ({}, {"raw": True}):
        *_, last = await lines(front, "/api/generate", {**asked, **more})
        assert (last["response"], last["done"]) == ("", True), more
    status, words = await error_of(front, "/api/generate", json={**asked, "suffix": "end"})
    assert (status, bool(words)) == (501, True), "a model that knows no infill"
    journal = (tmp_path / "journal").read_text().splitlines()
    assert [line.split()[3] for line in journal if line.startswith("request") and "POST" in line] == [
        "/v1/chat/completions",
        "/v1/completions",
        "/infill",
    ]
    assert {row["endpoint"] for row in await rows(own)} == {"api/generate"}


async def test_json_is_json_whatever_it_is_called(serve: Serve, beside: Beside) -> None:
    """`curl -d` calls it a form."""
    _, front = await both(serve, beside)
    body = json.dumps({"model": "m", "messages": HELLO, "options": SHORT, "stream": False})
    async with front.post(
        "/api/chat", data=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
    ) as response:
        assert response.status == 200


async def test_an_empty_request_loads_or_unloads(serve: Serve, beside: Beside) -> None:
    own, front = await both(serve, beside)
    for path, key in (("/api/chat", "message"), ("/api/generate", "response")):
        async with front.post(path, json={"model": "m"}) as response:
            told = await response.json()
        assert (told["done"], told["done_reason"], key in told) == (True, "load", True)
    (running,) = (await (await front.get("/api/ps")).json())["models"]
    assert running["name"] == "m"
    async with front.post("/api/generate", json={"model": "m", "keep_alive": 0}) as response:
        assert (await response.json())["done_reason"] == "unload"
    assert [row["state"] for row in await rows(own)] == ["ok"] * 3
    for path, told in (("/api/embed", {"model": "m", "embeddings": []}), ("/api/embeddings", {"embedding": []})):
        async with front.post(path, json={"model": "m"}) as response:
            assert await response.json() == told


async def test_embeddings(serve: Serve, beside: Beside, tmp_path: Path) -> None:
    _, front = await both(serve, beside, models={"m": fake_model(tmp_path, "m", args=["--embeddings"])})
    async with front.post("/api/embed", json={"model": "m", "input": ["a", "b"]}) as response:
        assert response.status == 200
        assert len((await response.json())["embeddings"]) == 2
    async with front.post("/api/embeddings", json={"model": "m", "prompt": "a"}) as response:
        assert (await response.json())["embedding"]


async def test_what_is_wrong_is_told_in_a_string(serve: Serve, beside: Beside) -> None:
    own, front = await both(serve, beside)
    status, words = await error_of(front, "/api/chat", json={"model": "nobody", "messages": HELLO})
    assert (status, "nobody" in words) == (404, True)
    assert (await error_of(front, "/api/chat", data=b"{"))[0] == 400
    assert (await error_of(front, "/api/chat", data=b"[1]"))[0] == 400
    assert (await error_of(front, "/api/chat", data=b"[" * 200 + b"]" * 200))[0] == 400
    assert (await error_of(front, "/api/chat", json={"messages": HELLO}))[0] == 400
    assert (await error_of(front, "/api/generate", json={"model": "m", "template": "x"}))[0] == 400
    assert (await error_of(front, "/api/show", json={}))[0] == 400
    assert (await error_of(front, "/api/chat", method="GET"))[0] == 405
    assert (await error_of(front, "/api/create", json={"model": "m"}))[0] == 501
    assert (await error_of(front, "/api/delete", method="DELETE", json={"model": "m"}))[0] == 501
    assert {row["state"] for row in await rows(own)} == {"rejected"}


async def test_pull_of_what_is_there_is_a_success(serve: Serve, beside: Beside) -> None:
    _, front = await both(serve, beside)
    assert await lines(front, "/api/pull", {"model": "m"}) == [{"status": "success"}]
    assert (await error_of(front, "/api/pull", json={"model": "llama3"}))[0] == 501


async def test_the_gateways_own_routes_are_not_there_but_openais_are(serve: Serve, beside: Beside) -> None:
    _, front = await both(serve, beside)
    for path in ("/api/models", "/metrics", "/dashboard", "/upstream/m/health", "/llamaproxws", "/models/load"):
        assert (await error_of(front, path, method="GET"))[0] == 404, path
    assert (await front.get("/v1/models")).status == 200
    async with front.post("/v1/chat/completions", json={"model": "nobody"}) as response:
        assert (await response.json())["error"]["code"] == "model_not_found"
    async with front.post("/v1/chat/completions", json={"model": "m", "messages": HELLO, "max_tokens": 2}) as response:
        assert response.status == 200


async def test_ollamas_routes_are_not_on_the_gateways_own_listener(serve: Serve, beside: Beside) -> None:
    own, _ = await both(serve, beside)
    assert (await own.get("/api/tags")).status == 404


async def test_keys_hosts_and_origins_are_checked_as_ever(serve: Serve, beside: Beside) -> None:
    keys = {
        "plain": {"sha256": fingerprint("plain"), "models": ["m"]},
        "boss": {"sha256": fingerprint("boss"), "admin": True},
    }
    _, front = await both(serve, beside, keys=keys)
    plain = {"Authorization": "Bearer plain"}
    assert (await front.get("/")).status == 200
    assert (await error_of(front, "/api/tags", method="GET"))[0] == 401
    listed = await (await front.get("/api/tags", headers=plain)).json()
    assert [model["name"] for model in listed["models"]] == ["m"]
    body = {"model": "m", "messages": HELLO, "options": SHORT}
    assert (await front.post("/api/chat", json=body, headers=plain)).status == 200
    assert (await error_of(front, "/api/chat", json={**body, "model": "org/n"}, headers=plain))[0] == 403
    assert (await error_of(front, "/api/show", json={"model": "org/n"}, headers=plain))[0] == 403
    assert (await error_of(front, "/api/chat", json=body, headers={**plain, "Host": "evil.test"}))[0] == 403
    assert (await error_of(front, "/api/chat", json=body, headers={**plain, "Origin": "http://evil.test"}))[0] == 403
    unload = {"model": "m", "keep_alive": 0}
    assert (await error_of(front, "/api/generate", json=unload, headers=plain))[0] == 403
    boss = {"Authorization": "Bearer boss"}
    assert (await front.post("/api/generate", json=unload, headers=boss)).status == 200


async def test_limits_of_a_key_hold(serve: Serve, beside: Beside) -> None:
    keys = {"k": {"sha256": fingerprint("k"), "rpm": 1}}
    _, front = await both(serve, beside, keys=keys)
    body = {"model": "m", "messages": HELLO, "options": SHORT}
    headers = {"Authorization": "Bearer k"}
    async with front.post("/api/chat", json=body, headers=headers) as response:
        assert response.headers["x-ratelimit-remaining-requests"] == "0"
    async with front.post("/api/chat", json=body, headers=headers) as response:
        assert (response.status, "Retry-After" in response.headers) == (429, True)
        assert list(await response.json()) == ["error"]


async def test_a_client_that_leaves_is_noticed(serve: Serve, beside: Beside, tmp_path: Path) -> None:
    model = fake_model(tmp_path, "m", env={"FAKE_TOKEN_SECONDS": "0.05"})
    own, front = await both(serve, beside, models={"m": model})
    async with front.post("/api/chat", json={"model": "m", "messages": HELLO}) as response:
        assert await response.content.readline()
        response.close()
    await until(lambda: "aborted" in (tmp_path / "journal").read_text(), "the engine has heard of it")
    assert [row["state"] for row in await rows(own)] == ["client_abort"]


async def test_an_engine_that_dies_in_the_middle_is_told_in_a_line(
    serve: Serve, beside: Beside, tmp_path: Path
) -> None:
    model = fake_model(tmp_path, "m", env={"FAKE_DIE_AFTER_TOKENS": "2"})
    own, front = await both(serve, beside, models={"m": model})
    got = b""
    async with front.post("/api/chat", json={"model": "m", "messages": HELLO}) as response:
        with pytest.raises(Exception, match="payload is not completed"):
            while part := await response.content.readany():
                got += part
    *parts, last = map(json.loads, got.splitlines())
    assert list(last) == ["error"]
    assert not any(part["done"] for part in parts)
    assert [row["state"] for row in await rows(own)] == ["truncated"]


async def test_an_engine_that_dies_before_its_answer_is_out_is_replaced(
    serve: Serve, beside: Beside, tmp_path: Path
) -> None:
    env = {"FAKE_DIE_BEFORE_FIRST_BYTE_TIMES": "1"}
    own, front = await both(serve, beside, models={"m": fake_model(tmp_path, "m", env=env)})
    body = {"model": "m", "messages": HELLO, "options": SHORT, "stream": False}
    assert (await front.post("/api/chat", json=body)).status == 200
    (row,) = await rows(own)
    assert (row["state"], row["replays"]) == ("ok", 1)


async def test_nothing_is_said_while_a_model_loads(serve: Serve, beside: Beside, tmp_path: Path) -> None:
    """Lines know no comments."""
    model = fake_model(tmp_path, "m", env={"FAKE_LOAD_SECONDS": "0.5"})
    _, front = await both(serve, beside, models={"m": model}, limits={"waiting_comments": 0.1})
    first, *_ = await lines(front, "/api/chat", {"model": "m", "messages": HELLO, "options": SHORT})
    assert first["message"]["content"]


async def test_an_operator_can_end_it(serve: Serve, beside: Beside, tmp_path: Path) -> None:
    model = fake_model(tmp_path, "m", env={"FAKE_TOKEN_SECONDS": "0.05"})
    own, front = await both(serve, beside, models={"m": model})

    async def ended() -> bytes:
        async with front.post("/api/chat", json={"model": "m", "messages": HELLO}) as response:
            await response.content.readline()
            (row,) = await rows(own)
            assert (await own.delete(f"/api/requests/{row['id']}")).status == 200
            with pytest.raises(Exception, match="payload is not completed"):
                while part := await response.content.readany():
                    last = part
            return last

    assert b'{"error":' in await asyncio.wait_for(ended(), 10)
    assert [row["state"] for row in await rows(own)] == ["rejected"]
