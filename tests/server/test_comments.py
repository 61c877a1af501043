"""A stream that has to wait says so, and what comes after is still a stream."""

from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp.test_utils import TestClient

from tests.gateway import chat_body, fake_model
from tests.server.conftest import Serve

SOON = {"waiting_comments": "50ms"}


async def stream(client: TestClient[Any, Any], model: str = "m") -> tuple[bytes, bool]:
    """What arrived, and whether it came to its proper end."""
    received = b""
    response = await client.post("/v1/chat/completions", json={**chat_body(model), "stream": True})
    assert response.status == 200
    assert response.content_type == "text/event-stream"
    try:
        async for part in response.content.iter_any():
            received += part
    except aiohttp.ClientPayloadError:
        return received, False
    return received, True


async def test_loading_is_told_and_the_answer_follows(serve: Serve, tmp_path: Path) -> None:
    models = {"m": fake_model(tmp_path, "m", env={"FAKE_LOAD_SECONDS": "0.4"})}
    client = await serve(models=models, limits=SOON)
    received, whole = await stream(client)
    assert whole
    assert received.startswith(b": loading m\n\n: loading m\n\n")
    assert received.endswith(b"data: [DONE]\n\n")
    assert b"\nid:" not in received


async def test_second_load_tells_how_far_it_is(serve: Serve, tmp_path: Path) -> None:
    models = {"m": fake_model(tmp_path, "m", env={"FAKE_LOAD_SECONDS": "0.4"})}
    client = await serve(models=models, limits=SOON)
    await stream(client)
    await client.post("/models/unload", json={"model": "m"})
    received, _ = await stream(client)
    assert b" %\n\n" in received


async def test_replay_is_waited_for_with_comments_too(serve: Serve, tmp_path: Path) -> None:
    env = {"FAKE_LOAD_SECONDS": "0.5", "FAKE_DIE_BEFORE_FIRST_BYTE_TIMES": "1"}
    client = await serve(models={"m": fake_model(tmp_path, "m", env=env)}, limits=SOON)
    await client.post("/tokenize", json={"model": "m", "content": "x"})
    received, whole = await stream(client)
    assert whole
    assert received.startswith(b": loading m, ")
    assert received.endswith(b"data: [DONE]\n\n")
    row, _ = (await (await client.get("/api/requests")).json())["requests"]
    assert row["replays"] == 1
    assert len(received) <= row["bytes_out"] < 1.1 * len(received), "comments are counted, too"


async def test_comments_of_two_waits_are_one_stream(serve: Serve, tmp_path: Path) -> None:
    env = {"FAKE_LOAD_SECONDS": "0.4", "FAKE_DIE_BEFORE_FIRST_BYTE_TIMES": "1"}
    client = await serve(models={"m": fake_model(tmp_path, "m", env=env)}, limits=SOON)
    received, whole = await stream(client)
    assert whole
    assert received.startswith(b": loading m\n\n")
    assert b" %\n\n" in received, "the second load is told, by the measure of the first"
    assert received.count(b"data: [DONE]") == 1


async def test_place_in_the_queue_is_told(serve: Serve, tmp_path: Path) -> None:
    models = {"m": fake_model(tmp_path, "m", concurrency=1, env={"FAKE_TOKEN_SECONDS": "0.05"})}
    client = await serve(models=models, limits=SOON)
    first = await client.post("/v1/chat/completions", json={**chat_body("m"), "stream": True})
    received, whole = await stream(client)
    assert whole
    assert b": queued, position 1\n\n" in received
    await first.read()


async def test_openai_package_reads_past_the_comments(serve: Serve, tmp_path: Path) -> None:
    models = {"m": fake_model(tmp_path, "m", env={"FAKE_LOAD_SECONDS": "0.3"})}
    client = await serve(models=models, limits=SOON)
    async with openai.AsyncOpenAI(base_url=str(client.make_url("/v1")), api_key="unused") as sdk:
        chunks = await sdk.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        assert [chunk async for chunk in chunks]


async def test_failure_after_comments_is_an_error_event(serve: Serve, tmp_path: Path) -> None:
    models = {"m": fake_model(tmp_path, "m", env={"FAKE_HEALTH_ALWAYS_503": "1"})}
    client = await serve(models=models, limits=SOON, engine={"start_timeout": "300ms"})
    received, whole = await stream(client)
    assert not whole
    assert b'"code":"load_timeout"' in received
    assert b"[DONE]" not in received
    (row,) = (await (await client.get("/api/requests")).json())["requests"]
    assert (row["state"], row["status"], row["error"]) == ("upstream_error", 504, "load_timeout")


async def test_error_of_the_engine_after_comments_is_an_error_event(serve: Serve, tmp_path: Path) -> None:
    models = {"m": fake_model(tmp_path, "m", env={"FAKE_LOAD_SECONDS": "0.2", "FAKE_INFERENCE_500": "1"})}
    client = await serve(models=models, limits=SOON)
    received, whole = await stream(client)
    assert not whole
    assert b"the engine answered 500" in received


async def test_short_waits_and_unary_requests_stay_as_they_are(serve: Serve, tmp_path: Path) -> None:
    models = {"m": fake_model(tmp_path, "m", env={"FAKE_LOAD_SECONDS": "0.2"})}
    client = await serve(models=models, limits=SOON)
    response = await client.post("/v1/chat/completions", json=chat_body("m"))
    assert response.content_type == "application/json"
    received, _ = await stream(client)
    assert not received.startswith(b":")


async def test_clients_mistakes_after_comments_are_no_failures_of_the_backend(serve: Serve, tmp_path: Path) -> None:
    models = {"m": fake_model(tmp_path, "m", env={"FAKE_LOAD_SECONDS": "0.3"})}
    client = await serve(models=models, limits=SOON, breaker={"request_failures": 1})
    wrong = {"model": "m", "messages": "wrong", "stream": True}
    response = await client.post("/v1/chat/completions", json=wrong)
    with pytest.raises(aiohttp.ClientPayloadError):
        await response.read()
    (row,) = (await (await client.get("/api/requests")).json())["requests"]
    assert (row["state"], row["status"]) == ("ok", 400)
    received, whole = await stream(client)
    assert whole and received.endswith(b"data: [DONE]\n\n")
