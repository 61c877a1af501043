"""llamaproxy.server.captures: bodies of requests and answers over HTTP, of a whole gateway with fake engines."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from llamaproxy.telemetry.redaction import MASK
from tests.gateway import PROMPT, chat_body, fake_model
from tests.server.conftest import Serve

Client = TestClient[Any, Any]
ON = {"captures": True}


async def ask(client: Client, method: str, path: str) -> tuple[int, Any]:
    async with client.request(method, path) as response:
        return response.status, await response.json()


async def chat(client: Client, **body: Any) -> str:
    async with client.post(
        "/v1/chat/completions", json={**chat_body("m"), **body}, headers={"X-Request-Id": "r-1"}
    ) as response:
        return await response.text()


@pytest.mark.parametrize("stream", [False, True])
async def test_both_bodies_of_a_request_are_shown(serve: Serve, stream: bool) -> None:
    client = await serve(telemetry=ON)
    answer = await chat(client, stream=stream)
    status, capture = await ask(client, "GET", "/api/requests/r-1/capture")
    assert (status, capture["model"]) == (200, "m")
    assert PROMPT in capture["request"]["first"]
    assert capture["response"]["first"] == answer


async def test_answers_of_engines_that_refuse_are_captured_too(serve: Serve, tmp_path: Path) -> None:
    client = await serve(telemetry=ON, models={"m": fake_model(tmp_path, "m", env={"FAKE_INFERENCE_500": "1"})})
    await chat(client)
    _, capture = await ask(client, "GET", "/api/requests/r-1/capture")
    assert "error" in capture["response"]["first"]


async def test_replayed_request_has_one_capture(serve: Serve, tmp_path: Path) -> None:
    env = {"FAKE_DIE_BEFORE_FIRST_BYTE_TIMES": "1"}
    client = await serve(telemetry=ON, models={"m": fake_model(tmp_path, "m", env=env)})
    answer = await chat(client)
    _, capture = await ask(client, "GET", "/api/requests/r-1/capture")
    assert capture["response"]["first"] == answer
    await ask(client, "DELETE", "/api/requests/r-1/capture")
    assert (await ask(client, "GET", "/api/requests/r-1/capture"))[0] == 404


async def test_secrets_are_masked(serve: Serve) -> None:
    client = await serve(telemetry=ON)
    await chat(client, metadata={"api_key": "hunter22"})
    _, capture = await ask(client, "GET", "/api/requests/r-1/capture")
    assert "hunter22" not in capture["request"]["first"]
    assert MASK in capture["request"]["first"]


async def test_off_unless_it_is_asked_for(serve: Serve) -> None:
    client = await serve()
    await chat(client)
    status, answer = await ask(client, "GET", "/api/requests/r-1/capture")
    assert (status, answer["error"]["code"]) == (404, "not_found")
    assert "telemetry.captures has them kept, but for WebSockets" in answer["error"]["message"]


async def test_captures_are_nowhere_else(serve: Serve, tmp_path: Path) -> None:
    client = await serve(telemetry=ON)
    await chat(client)
    for path in ("/api/logs?limit=1000", "/api/requests", "/api/requests/r-1"):
        async with client.get(path) as response:
            assert PROMPT not in await response.text()


async def test_one_is_deleted_or_all(serve: Serve) -> None:
    client = await serve(telemetry=ON)
    path = "/api/requests/r-1/capture"
    await chat(client)
    assert await ask(client, "DELETE", path) == (200, {"success": True})
    assert (await ask(client, "DELETE", path))[0] == (await ask(client, "GET", path))[0] == 404
    await chat(client)
    assert await ask(client, "DELETE", "/api/captures") == (200, {"success": True})
    assert (await ask(client, "GET", path))[0] == 404
    assert (await ask(client, "GET", "/api/requests/r-1"))[0] == 200, "the row stays"
