"""The table of routes, the door, and errors that are always JSON."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient
from yarl import URL

from llamaproxy.config import Config
from llamaproxy.core.usage import StreamMeter
from llamaproxy.errors import ConfigError
from llamaproxy.server.express import Express
from llamaproxy.server.gateway import check
from llamaproxy.server.guard import fingerprint
from llamaproxy.server.relay import Relay
from llamaproxy.tasks import spawn
from tests.gateway import fake_model
from tests.models.ggufs import write as write_model
from tests.server.conftest import Serve


async def error_of(client: TestClient[Any, Any], method: str, path: str, **request: Any) -> tuple[int, str]:
    """Status and code of an error that must have the whole envelope."""
    async with client.request(method, path, **request) as response:
        assert response.content_type == "application/json"
        error = (await response.json())["error"]
        assert set(error) - {"detail"} == {"message", "type", "param", "code"}
        assert error["message"]
        return response.status, error["code"]


async def test_health_and_readiness(serve: Serve) -> None:
    client = await serve()
    assert (await client.get("/health")).status == 200
    assert (await client.get("/ready")).status == 200


async def test_without_an_engine_it_runs_and_says_what_to_install(serve: Serve) -> None:
    client = await serve(engine={"binary": "/nowhere/llama-server"})
    assert (await client.get("/health")).status == 200
    response = await client.get("/ready")
    assert response.status == 503
    assert "install" in (await response.json())["reason"]
    assert (await client.get("/v1/models")).status == 200
    assert await error_of(client, "POST", "/v1/chat/completions", json={"model": "m"}) == (503, "engine_missing")


@pytest.mark.parametrize("path", ["/v1/models", "/models", "//v1//models/", "/v1/models/"])
async def test_models_are_listed_under_every_spelling(serve: Serve, path: str) -> None:
    client = await serve()
    # The test client refuses paths that begin with two slashes; real clients send them.
    listed = (await (await client.session.get(f"http://127.0.0.1:{client.port}{path}")).json())["data"]
    assert [(model["id"], model["status"]["value"]) for model in listed] == [("m", "unloaded"), ("org/n", "unloaded")]


async def test_one_model_by_name_even_with_a_slash(serve: Serve) -> None:
    client = await serve()
    assert (await (await client.get("/v1/models/org/n")).json())["id"] == "org/n"
    assert await error_of(client, "GET", "/v1/models/nobody") == (404, "model_not_found")


async def test_errors_have_their_status_and_code(serve: Serve) -> None:
    client = await serve(server={"max_body": 1000})
    chat = "/v1/chat/completions"
    assert await error_of(client, "GET", "/nothing/here") == (404, "not_found")
    assert await error_of(client, "GET", chat) == (405, "method_not_allowed")
    assert await error_of(client, "POST", "/health") == (405, "method_not_allowed")
    assert await error_of(client, "POST", chat, data=b"{") == (400, "invalid_json")
    assert await error_of(client, "POST", chat, data=b'{"model":"m","model":"n"}') == (400, "duplicate_model")
    assert await error_of(client, "POST", chat, json={"model": ["m"]}) == (400, "invalid_request")
    assert await error_of(client, "POST", chat, json={}) == (400, "invalid_request")
    assert await error_of(client, "POST", chat, json={"model": "../../etc/passwd"}) == (404, "model_not_found")
    assert await error_of(client, "POST", chat, data=b" " * 2000) == (413, "request_too_large")


async def test_wrong_method_is_told_the_right_ones(serve: Serve) -> None:
    client = await serve()
    assert (await client.get("/v1/chat/completions")).headers["Allow"] == "POST"
    assert (await client.delete("/models")).headers["Allow"] == "GET"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_streams_leave_nothing_to_the_collector(serve: Serve, path: str) -> None:
    """It looks seldom, and stops everything when it does."""
    client = await serve()
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}], "prompt": "x"}
    await (await client.post(path, json=body)).read()
    gc.collect()
    gc.disable()
    try:
        await (await client.post(path, json=body)).read()
        await (await client.get("/api/health")).read()
        kinds = Relay | Express | StreamMeter
        assert not [found for found in gc.get_objects() if isinstance(found, kinds)]
    finally:
        gc.enable()


async def test_failure_of_our_own_in_the_middle_of_a_stream_cuts_it_off(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(relay: Relay, observe: object) -> None:
        relay._client.write(relay._pending)
        raise RuntimeError("a bug")

    client = await serve()
    monkeypatch.setattr(Relay, "run", fail)
    response = await client.post("/v1/completions", json={"model": "m", "prompt": "x", "stream": True})
    with pytest.raises(aiohttp.ClientPayloadError):
        await response.read()


async def test_body_that_grows_too_large_without_a_length_is_refused(serve: Serve) -> None:
    client = await serve(server={"max_body": 1000})

    async def endless() -> Any:
        for _ in range(100):
            yield b" " * 100

    assert await error_of(client, "POST", "/v1/completions", data=endless()) == (413, "request_too_large")


async def test_anthropic_paths_answer_in_anthropic_shape(serve: Serve) -> None:
    client = await serve()
    response = await client.post("/v1/messages", json={"model": "nobody", "messages": []})
    body = await response.json()
    assert (response.status, body["type"], body["error"]["type"]) == (404, "error", "not_found_error")


async def test_request_id_comes_back_or_is_made(serve: Serve) -> None:
    client = await serve()
    assert (await client.get("/health", headers={"X-Request-Id": "abc-1"})).headers["X-Request-Id"] == "abc-1"
    made = (await client.get("/health", headers={"X-Request-Id": "<script>"})).headers["X-Request-Id"]
    assert made and "<" not in made


async def test_foreign_host_and_origin_change_nothing(serve: Serve) -> None:
    client = await serve()
    assert await error_of(client, "GET", "/v1/models", headers={"Host": "evil.example"}) == (403, "forbidden")
    foreign = {"Origin": "https://evil.example"}
    for path in ("/models/load", "/v1/chat/completions"):
        refused = await error_of(client, "POST", path, json={"model": "m"}, headers=foreign)
        assert refused == (403, "forbidden_origin")
    listed = (await (await client.get("/api/models")).json())["models"]
    assert [model["state"] for model in listed] == ["stopped", "stopped"]


async def test_form_posts_change_nothing(serve: Serve) -> None:
    client = await serve()
    refused = await error_of(client, "POST", "/models/load", data={"model": "m"})
    assert refused == (415, "unsupported_media_type")


async def test_allowed_origin_may_read_and_act(serve: Serve) -> None:
    client = await serve(server={"allowed_origins": ["https://ui.example"]})
    origin = {"Origin": "https://ui.example"}
    response = await client.get("/v1/models", headers=origin)
    assert response.headers["Access-Control-Allow-Origin"] == "https://ui.example"
    preflight = await client.options(
        "/v1/chat/completions", headers={**origin, "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status == 204
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Origin" not in (await client.get("/v1/models")).headers


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/chat/completions", "POST, HEAD, OPTIONS"),
        ("/v1/models", "GET, HEAD, OPTIONS"),
        ("/v1/models/", "GET, HEAD, OPTIONS"),
        ("/api/models/m/start", "POST, HEAD, OPTIONS"),
        ("/api/models/org%2Fn/start", "POST, HEAD, OPTIONS"),
        ("/nothing", "GET, POST, HEAD, OPTIONS"),
    ],
)
async def test_options_tell_what_a_path_takes(serve: Serve, path: str, methods: str) -> None:
    client = await serve()
    # As it is spelled: the client would undo what is escaped without need.
    async with aiohttp.ClientSession() as session:
        response = await session.options(URL(f"http://127.0.0.1:{client.port}{path}", encoded=True))
    assert (response.status, response.headers["Allow"]) == (204, methods)


async def test_keys_are_asked_for_where_there_are_any(serve: Serve) -> None:
    client = await serve(keys={"me": {"sha256": fingerprint("lp-secret")}})
    assert (await client.get("/health")).status == 200
    assert await error_of(client, "GET", "/v1/models") == (401, "invalid_api_key")
    for headers in ({"Authorization": "Bearer lp-secret"}, {"x-api-key": "lp-secret"}):
        assert (await client.get("/v1/models", headers=headers)).status == 200


async def test_page_is_served(serve: Serve) -> None:
    client = await serve()
    response = await client.get("/")
    assert response.content_type == "text/html"
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]


async def test_the_page_opens_without_a_key_and_the_list_of_models_does_not(serve: Serve) -> None:
    client = await serve(keys={"me": {"sha256": fingerprint("lp-secret")}})
    for path in ("/", "/models", "/requests"):
        opened = await client.get(path, headers={"Accept": "text/html"})
        assert (opened.status, opened.content_type) == (200, "text/html")
    assert await error_of(client, "GET", "/models", headers={"Accept": "application/json"}) == (401, "invalid_api_key")
    assert await error_of(client, "GET", "/assets/none.js") == (404, "not_found")


async def test_the_page_is_not_shown_under_a_foreign_name(serve: Serve) -> None:
    client = await serve()
    assert await error_of(client, "GET", "/dashboard", headers={"Host": "rebound.example"}) == (403, "forbidden")


async def test_load_and_unload(serve: Serve) -> None:
    client = await serve()
    assert (await client.post("/models/load", json={"model": "m"})).status == 200
    assert (await client.post("/v1/chat/completions", json={"model": "m", "messages": []})).status == 200
    listed = (await (await client.get("/v1/models")).json())["data"]
    assert [model["status"]["value"] for model in listed] == ["loaded", "unloaded"]
    assert (await client.post("/models/unload", json={"model": "m"})).status == 200


def test_dangerous_arguments_are_refused_before_anything_runs() -> None:
    config = Config.model_validate(
        {"models": {"m": {"path": "x", "args": ["--rpc", "host:1"]}}, "engine": {"args": ["--tools", "all"]}}
    )
    with pytest.raises(ConfigError) as refused:
        check(config)
    assert [line.split(":")[0] for line in refused.value.message.splitlines()] == ["engine.args", "models.m.args"]
    check(config.model_copy(update={"engine": config.engine.model_copy(update={"allow_unsafe_args": True})}))


def test_open_address_needs_a_key() -> None:
    with pytest.raises(ConfigError, match="keys create"):
        check(Config.model_validate({"server": {"host": "0.0.0.0"}}))


async def test_models_of_a_directory_are_offered_beside_the_configured_ones(serve: Serve, tmp_path: Path) -> None:
    directory = tmp_path / "models"
    directory.mkdir()
    for name in ("scanned", "taken"):
        write_model(directory / f"{name}.gguf")
    (directory / "junk.gguf").write_bytes(b"junk")
    models = {"m": fake_model(tmp_path, "m", aliases=["taken"])}
    client = await serve(catalog={"models_dir": str(directory)}, models=models)
    listed = (await (await client.get("/api/models")).json())["models"]
    assert [(model["name"], model["source"]) for model in listed] == [("m", "configured"), ("scanned", "scanned")]
    assert (await client.post("/v1/chat/completions", json={"model": "scanned", "messages": []})).status == 200


async def test_nobody_is_evicted_for_a_file_that_is_no_model(serve: Serve, tmp_path: Path) -> None:
    whole = tmp_path / "whole.gguf"
    write_model(whole)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[:-10])
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"junk")
    broken = {path.stem: {"path": str(path)} for path in (cut, junk, tmp_path / "gone.gguf")}
    client = await serve(models={"m": fake_model(tmp_path, "m"), **broken}, limits={"models_max": 1})
    assert (await client.post("/v1/chat/completions", json={"model": "m", "messages": []})).status == 200
    for name in broken:
        refused = await error_of(client, "POST", "/v1/chat/completions", json={"model": name})
        assert refused == (503, "model_start_failed")
    listed = (await (await client.get("/api/models")).json())["models"]
    assert [(model["state"], model["starts"]) for model in listed] == [("ready", 1)] + [("stopped", 0)] * 3


async def test_nobody_is_evicted_for_a_command_that_cannot_be_executed(serve: Serve, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("words")
    broken = {name: {"command": [program, "${port}"]} for name, program in (("gone", "gone-x"), ("plain", str(plain)))}
    client = await serve(models={"m": fake_model(tmp_path, "m"), **broken}, limits={"models_max": 1})
    assert (await client.post("/v1/chat/completions", json={"model": "m", "messages": []})).status == 200
    for name in broken:
        refused = await error_of(client, "POST", "/v1/chat/completions", json={"model": name})
        assert refused == (503, "model_start_failed")
    listed = (await (await client.get("/api/models")).json())["models"]
    assert [(model["state"], model["starts"]) for model in listed] == [("ready", 1)] + [("stopped", 0)] * 2


async def test_without_an_engine_other_servers_serve(serve: Serve) -> None:
    models = {"far": {"url": "http://127.0.0.1:1", "api_key": "hunter2"}, "own": {"command": ["x", "${port}"]}}
    client = await serve(models=models, engine={"binary": "/nowhere/llama-server"})
    assert (await client.get("/ready")).status == 200
    assert [model["id"] for model in (await (await client.get("/v1/models")).json())["data"]] == ["far", "own"]
    text = await (await client.get("/api/models")).text()
    assert "hunter2" not in text
    assert '"url":"http://127.0.0.1:1"' in text


async def test_operators_see_how_many_tasks_there_are(serve: Serve) -> None:
    client = await serve()

    async def tasks() -> int:
        found: int = (await (await client.get("/api/health")).json())["tasks"]
        return found

    await tasks()
    before = await tasks()
    waiting = spawn(asyncio.Event().wait(), name="waits")
    assert await tasks() == before + 1
    waiting.cancel()
    await asyncio.wait({waiting})
    assert await tasks() == before
