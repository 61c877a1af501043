"""LM Studio's routes: OpenAI's, with more said."""

import json
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient

from llamaproxy.server.guard import fingerprint
from tests.gateway import fake_model
from tests.models.ggufs import write
from tests.server.conftest import Beside, Serve

Http = TestClient[Any, Any]
ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}


async def both(serve: Serve, beside: Beside, **sections: Any) -> tuple[Http, Http]:
    """The gateway's own listener, and LM Studio's."""
    own = await serve(**{"server": {"lmstudio_port": 1234}, **sections})
    return own, await beside(own, "lmstudio_port")


async def rows(own: Http) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await (await own.get("/api/requests")).json())["requests"]
    return found


async def test_models_in_lists_and_alone(serve: Serve, beside: Beside) -> None:
    _, front = await both(serve, beside)
    listed = await (await front.get("/api/v0/models")).json()
    assert (listed["object"], [model["id"] for model in listed["data"]]) == ("list", ["m", "org/n"])
    one = await (await front.get("/api/v0/models/org/n")).json()
    assert (one["id"], one["publisher"], one["type"], one["state"]) == ("org/n", "org", "llm", "not-loaded")
    assert "loaded_context_length" not in one
    async with front.get("/api/v0/models/nobody") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (404, "model_not_found")


async def test_kinds_of_models(serve: Serve, beside: Beside, tmp_path: Path) -> None:
    talks = str(write(tmp_path / "t.gguf", context_length=4096, tokenizer__chat_template="x"))
    models = {
        "sees": {"path": talks, "mmproj": talks, "ctx_size": 512},
        "embeds": {"path": talks, "args": ["--embeddings"]},
    }
    _, front = await both(serve, beside, models=models)
    listed = (await (await front.get("/api/v0/models")).json())["data"]
    assert [(model["id"], model["type"]) for model in listed] == [("sees", "vlm"), ("embeds", "embeddings")]


async def test_a_chat_has_stats(serve: Serve, beside: Beside) -> None:
    own, front = await both(serve, beside)
    async with front.post("/api/v0/chat/completions", json=ASKED) as response:
        assert response.status == 200
        told = await response.json()
    assert told["choices"][0]["message"]["content"]
    assert told["stats"]["stop_reason"] == "maxPredictedTokensReached"
    assert (told["model_info"]["format"], told["runtime"]["name"]) == ("gguf", "llama.cpp")
    (row,) = await rows(own)
    assert (row["endpoint"], row["completion_tokens"], row["state"]) == ("api/v0/chat/completions", 3, "ok")
    loaded = await (await front.get("/api/v0/models/m")).json()
    assert (loaded["state"], "loaded_context_length" in loaded) == ("loaded", True)


async def test_a_stream_has_them_in_its_last_event(serve: Serve, beside: Beside) -> None:
    _, front = await both(serve, beside)
    asked = {"model": "m", "prompt": "Once", "max_tokens": 3, "stream": True}
    async with front.post("/api/v0/completions", json=asked) as response:
        assert response.content_type == "text/event-stream"
        events = (await response.text()).split("\n\n")
    *_, last, done, rest = events
    assert (done, rest) == ("data: [DONE]", "")
    assert [("stats" in one, "timings" in one) for one in events[:-3]] == [(False, False)] * 3
    assert json.loads(last.removeprefix("data: "))["stats"]["tokens_per_second"]


async def test_a_stream_that_waits_says_why(serve: Serve, beside: Beside, tmp_path: Path) -> None:
    model = fake_model(tmp_path, "m", env={"FAKE_LOAD_SECONDS": "0.5"})
    _, front = await both(serve, beside, models={"m": model}, limits={"waiting_comments": 0.1})
    async with front.post("/api/v0/chat/completions", json={**ASKED, "stream": True}) as response:
        text = await response.text()
    assert text.startswith(": loading m")
    assert '"stats"' in text and text.endswith("data: [DONE]\n\n")


async def test_embeddings_are_openais(serve: Serve, beside: Beside, tmp_path: Path) -> None:
    _, front = await both(serve, beside, models={"m": fake_model(tmp_path, "m", args=["--embeddings"])})
    async with front.post("/api/v0/embeddings", json={"model": "m", "input": "a"}) as response:
        assert (await response.json())["data"][0]["embedding"]


async def test_errors_are_openais(serve: Serve, beside: Beside) -> None:
    own, front = await both(serve, beside)
    async with front.post("/api/v0/chat/completions", json={**ASKED, "model": "nobody"}) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (404, "model_not_found")
    async with front.post("/api/v0/chat/completions", data=b"{") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_json")
    async with front.post("/api/v0/chat/completions", json={**ASKED, "tools": 1}) as response:
        assert response.status == 400
    assert (await front.get("/api/v0/chat/completions")).status == 405
    assert (await front.get("/api/models")).status == 404
    assert (await front.get("/v1/models")).status == 200
    assert [row["state"] for row in await rows(own)] == ["rejected"] * 3


async def test_keys_hold(serve: Serve, beside: Beside) -> None:
    _, front = await both(serve, beside, keys={"k": {"sha256": fingerprint("k"), "models": ["m"]}})
    assert (await front.get("/api/v0/models")).status == 401
    headers = {"Authorization": "Bearer k"}
    listed = await (await front.get("/api/v0/models", headers=headers)).json()
    assert [model["id"] for model in listed["data"]] == ["m"]
    assert (await front.get("/api/v0/models/org/n", headers=headers)).status == 403
    async with front.post("/api/v0/completions", json={"model": "org/n", "prompt": "x"}, headers=headers) as response:
        assert response.status == 403
