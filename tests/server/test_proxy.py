"""From the body to the engine and back: what is sent on, and what is written down."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient

from tests.gateway import PATIENCE, chat_body, fake_model
from tests.server.conftest import Serve


async def rows(client: TestClient[Any, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await (await client.get("/api/requests")).json())["requests"]
    return found


async def test_answer_carries_who_answered_and_what_was_waited_for(serve: Serve) -> None:
    client = await serve()
    response = await client.post("/v1/chat/completions", json=chat_body("m"), headers={"X-Request-Id": "r-1"})
    assert response.status == 200
    assert response.headers["x-llamaproxy-model"] == "m"
    assert int(response.headers["x-llamaproxy-load-ms"]) > 0
    assert "X-Fake-Pid" in response.headers, "the engine's own fields pass"
    (row,) = await rows(client)
    assert (row["id"], row["model"], row["endpoint"], row["state"]) == ("r-1", "m", "chat/completions", "ok")
    assert row["bytes_in"] == len(json.dumps(chat_body("m")))
    assert row["bytes_out"] == len(await response.read())


async def test_model_comes_from_body_query_or_path(serve: Serve) -> None:
    client = await serve()
    content = {"content": "one"}
    assert (await client.post("/tokenize", json={**content, "model": "m"})).status == 200
    assert (await client.post("/tokenize?model=m", json=content)).status == 200
    assert (await client.get("/props?model=m")).status == 200
    assert (await client.post("/upstream/m/tokenize", json=content)).status == 200
    assert (await client.get("/upstream/org/n/health")).status == 200
    assert (await client.get("/upstream/org%2Fn/v1/models")).status == 200
    url = f"http://127.0.0.1:{client.port}//upstream//m/health"
    assert (await client.session.get(url)).status == 200
    assert [row["model"] for row in await rows(client)] == ["m", "org/n", "org/n", "m", "m", "m", "m"]


async def test_only_model_needs_no_name(serve: Serve, tmp_path: Path) -> None:
    client = await serve(models={"m": fake_model(tmp_path, "m")})
    assert (await client.post("/v1/completions", json={"prompt": "x"})).status == 200


async def test_base_without_v1_and_sloppy_slashes(serve: Serve) -> None:
    client = await serve()
    for path in ("/chat/completions", "//v1//chat/completions", "/v1/chat/completions/"):
        url = f"http://127.0.0.1:{client.port}{path}"
        assert (await client.session.post(url, json=chat_body("m"))).status == 200


async def test_stream_passes_byte_for_byte(serve: Serve) -> None:
    client = await serve()
    response = await client.post("/v1/chat/completions", json={**chat_body("m"), "stream": True})
    body = await response.read()
    assert response.content_type == "text/event-stream"
    assert body.endswith(b"data: [DONE]\n\n")
    (row,) = await rows(client)
    assert (row["stream"], row["bytes_out"]) == (True, len(body))


async def test_rejected_requests_have_rows_too(serve: Serve) -> None:
    client = await serve()
    await client.post("/v1/chat/completions", json=chat_body("nobody"))
    await client.post("/v1/chat/completions", data=b"{")
    found = [(row["state"], row["status"], row["model"]) for row in await rows(client)]
    assert found == [("rejected", 400, None), ("rejected", 404, None)]


async def test_engine_errors_pass_as_they_are(serve: Serve) -> None:
    client = await serve()
    response = await client.post("/v1/embeddings", json={"model": "m", "input": "x"})
    assert response.status == 501
    assert (await response.json())["error"]["type"] == "not_supported_error"


@pytest.mark.parametrize("path", ["/v1/messages", "/upstream/m/v1/messages"])
async def test_clients_mistakes_that_engines_take_for_their_own_do_not_reach_them(serve: Serve, path: str) -> None:
    client = await serve(breaker={"request_failures": 1})
    for _ in range(2):
        response = await client.post(path, json={"model": "m"})
        assert response.status == 400
        assert (await response.json())["error"]["type"] == "invalid_request_error"
    response = await client.post(path, json={**chat_body("m"), "max_tokens": 1})
    assert response.status == 200


async def test_body_that_does_not_arrive_is_a_timeout(serve: Serve) -> None:
    client = await serve(server={"body_timeout": "100ms"})
    release = asyncio.Event()

    async def stuck() -> Any:
        yield b"{"
        await release.wait()

    response = await client.post("/v1/completions", data=stuck())
    release.set()
    assert response.status == 408
    assert (await response.json())["error"]["code"] == "request_timeout"


async def test_engine_that_never_answers_is_a_timeout_of_its_own(serve: Serve, tmp_path: Path) -> None:
    models = {"m": fake_model(tmp_path, "m", env={"FAKE_HANG_BEFORE_FIRST_BYTE": "1"})}
    client = await serve(models=models, engine={"first_byte_timeout": "200ms"})
    response = await client.post("/v1/chat/completions", json=chat_body("m"))
    assert (response.status, (await response.json())["error"]["code"]) == (504, "upstream_stalled")
    (row,) = await rows(client)
    assert row["state"] == "upstream_error"


async def test_what_an_abandoned_stream_had_sent_is_counted(serve: Serve, tmp_path: Path) -> None:
    client = await serve(models={"m": fake_model(tmp_path, "m", env={"FAKE_TOKEN_SECONDS": "0.02"})})
    response = await client.post("/v1/chat/completions", json={**chat_body("m"), "stream": True, "max_tokens": 1000})
    received = await response.content.readuntil(b"word2")
    response.close()
    async with asyncio.timeout(PATIENCE):
        while (row := (await rows(client))[0])["state"] == "in_flight":
            await client.get("/health")
    assert row["state"] == "client_abort"
    assert row["bytes_out"] >= len(received)


async def test_what_a_broken_stream_had_sent_is_counted_with_its_error(serve: Serve, tmp_path: Path) -> None:
    env = {"FAKE_DIE_AFTER_TOKENS": "3", "FAKE_TOKEN_SECONDS": "0.01"}
    client = await serve(models={"m": fake_model(tmp_path, "m", env=env)})
    response = await client.post("/v1/chat/completions", json={**chat_body("m"), "stream": True})
    received = b""
    with pytest.raises(aiohttp.ClientPayloadError):
        async for part in response.content.iter_any():
            received += part
    (row,) = await rows(client)
    assert (row["state"], row["bytes_out"]) == ("truncated", len(received))


async def test_engine_that_is_killed_under_every_try_is_given_up(serve: Serve, tmp_path: Path) -> None:
    models = {"m": fake_model(tmp_path, "m", env={"FAKE_DIE_BEFORE_FIRST_BYTE_TIMES": "100"})}
    client = await serve(models=models, breaker={"request_failures": 100})
    response = await client.post("/v1/chat/completions", json=chat_body("m"))
    assert (response.status, (await response.json())["error"]["code"]) == (503, "model_unavailable")
    (row,) = await rows(client)
    assert row["replays"] == 6
