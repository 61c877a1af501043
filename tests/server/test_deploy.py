"""llamaproxy.server.deploy: /api/deploy in a whole gateway, against a hub of our own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from llamaproxy.server import deploy
from llamaproxy.server.guard import fingerprint
from tests.models.fakehub import REPOSITORY, TOKEN, FakeHub
from tests.models.hubs import model, sharded
from tests.server.conftest import Serve

WANTED = {"repo": REPOSITORY, "quant": "q8_0", "name": "tiny"}


@pytest.fixture
async def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeHub]:
    files = {**sharded(tmp_path), "m-F16.gguf": model(tmp_path), "mmproj-F16.gguf": model(tmp_path)}
    async with FakeHub(files).running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
async def client(serve: Serve, fake: FakeHub, tmp_path: Path) -> TestClient[Any, Any]:
    directory = tmp_path / "models"
    directory.mkdir()
    return await serve(catalog={"models_dir": str(directory), "downloads": True})


async def events(client: TestClient[Any, Any]) -> list[tuple[str, Any]]:
    """Until the stream ends."""
    async with client.get("/api/deploy/stream") as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        text = (await response.read()).decode()
    lines = (event.split("\n") for event in text.strip().split("\n\n"))
    return [(name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))) for name, data in lines]


async def error(response: Any) -> tuple[int, str]:
    return response.status, (await response.json())["error"]["code"]


async def test_from_a_plan_to_a_model_that_is_listed(client: TestClient[Any, Any]) -> None:
    plan = await (await client.get("/api/deploy/plan", params={"repo": REPOSITORY})).json()
    assert {one["quant"]: (one["name"], len(one["files"])) for one in plan["quantisations"]} == {
        "F16": ("m-F16", 1),
        "Q8_0": ("tiny-Q8_0", 3),
    }
    assert plan["projector"] == "mmproj-F16.gguf"
    assert {one["fit"]["fits"] for one in plan["quantisations"]} == {"yes"}
    started = await client.post("/api/deploy", json=WANTED)
    job = await started.json()
    assert (started.status, job["state"], job["name"], job["total"]) == (202, "running", "tiny", job["total"])
    told = await events(client)
    assert [name for name, _ in told][-2:] == ["jobs", "end"]
    (last,) = told[-2][1]["jobs"]
    assert (last["id"], last["state"], last["done"]) == (job["id"], "done", job["total"])
    listed = await (await client.get("/api/models/tiny")).json()
    assert (listed["source"], listed["state"]) == ("scanned", "stopped")
    assert (await (await client.get(f"/api/deploy/{job['id']}")).json())["state"] == "done"


async def test_by_files(client: TestClient[Any, Any], fake: FakeHub) -> None:
    answer = await client.post("/api/deploy", json={"repo": REPOSITORY, "files": ["m-F16.gguf"]})
    assert (answer.status, [file["path"] for file in (await answer.json())["files"]]) == (202, ["m-F16.gguf"])
    await events(client)
    assert (await client.get("/api/models/m-F16")).status == 200


async def test_cancelled_and_taken_up_again(client: TestClient[Any, Any], fake: FakeHub) -> None:
    async def never(path: str, request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    fake.storage = never
    job = await (await client.post("/api/deploy", json=WANTED)).json()
    assert await error(await client.post("/api/deploy", json=WANTED)) == (409, "conflict")
    assert (await client.delete(f"/api/deploy/{job['id']}")).status == 200
    assert (await events(client))[-2][1]["jobs"][0]["state"] == "cancelled"
    fake.storage = None
    assert (await client.post("/api/deploy", json=WANTED)).status == 202
    assert (await events(client))[-2][1]["jobs"][0]["state"] == "done"
    assert await error(await client.delete("/api/deploy/none")) == (404, "not_found")


async def test_the_token_is_never_told(client: TestClient[Any, Any], fake: FakeHub) -> None:
    fake.gated = True
    assert (await client.post("/api/deploy", json=WANTED)).status == 202
    await events(client)
    for path in ("/api/deploy", "/api/config", "/api/logs?limit=1000&level=debug"):
        assert TOKEN not in await (await client.get(path)).text()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"repo": "../../etc"}, 400, "invalid_request"),
        ({"repo": REPOSITORY, "name": "../x"}, 400, "invalid_request"),
        ({"repo": REPOSITORY, "name": "a/b"}, 400, "invalid_request"),
        ({"repo": REPOSITORY, "quant": "F16", "files": ["m-F16.gguf"]}, 400, "invalid_request"),
        ({"repo": REPOSITORY, "quant": "F16", "path": "/etc"}, 400, "invalid_request"),
        ({"repo": REPOSITORY}, 400, "invalid_request"),
        ({"repo": REPOSITORY, "files": ["../../m.gguf"]}, 404, "repository_not_found"),
        ({"repo": REPOSITORY, "quant": "Q2_K"}, 404, "repository_not_found"),
        ({"repo": "org/other"}, 404, "repository_not_found"),
        ({"repo": REPOSITORY, "quant": "F16", "name": "m"}, 409, "conflict"),
    ],
    ids=str,
)
async def test_refusals(client: TestClient[Any, Any], body: Any, status: int, code: str) -> None:
    assert await error(await client.post("/api/deploy", json=body)) == (status, code)


@pytest.mark.parametrize(
    ("answer", "status", "code"), [(503, 502, "hub_failed"), (403, 502, "hub_denied"), (429, 503, "hub_busy")]
)
async def test_what_the_hub_refuses(
    client: TestClient[Any, Any], fake: FakeHub, answer: int, status: int, code: str
) -> None:
    fake.refusals = [web.Response(status=answer) for _ in range(2)]
    assert await error(await client.post("/api/deploy", json=WANTED)) == (status, code)
    assert await error(await client.get("/api/deploy/plan", params={"repo": REPOSITORY})) == (status, code)


async def test_nothing_is_asked_of_the_hub_unless_downloads_are_on(serve: Serve, fake: FakeHub, tmp_path: Path) -> None:
    client = await serve(catalog={"models_dir": str(tmp_path)})
    assert await error(await client.post("/api/deploy", json=WANTED)) == (403, "forbidden")
    assert await error(await client.get("/api/deploy/plan", params={"repo": REPOSITORY})) == (403, "forbidden")
    placeless = await serve(catalog={"downloads": True})
    assert await error(await placeless.post("/api/deploy", json=WANTED)) == (422, "invalid_configuration")
    assert fake.seen == []


async def test_administrators_only(serve: Serve, fake: FakeHub, tmp_path: Path) -> None:
    keys = {
        "root": {"sha256": fingerprint("lp-root"), "admin": True},
        "alice": {"sha256": fingerprint("lp-alice")},
    }
    client = await serve(keys=keys, catalog={"models_dir": str(tmp_path), "downloads": True})
    for path in ("/api/deploy", "/api/deploy/stream", "/api/deploy/plan"):
        assert (await client.get(path, headers={"x-api-key": "lp-alice"})).status == 403
    assert (await client.post("/api/deploy", json=WANTED, headers={"x-api-key": "lp-alice"})).status == 403
    assert (await client.get("/api/deploy", headers={"x-api-key": "lp-root"})).status == 200


async def test_no_more_followers_than_there_may_be(
    client: TestClient[Any, Any], fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(path: str, request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    fake.storage = never
    monkeypatch.setattr(deploy, "MOST_STREAMS", 1)
    job = await (await client.post("/api/deploy", json=WANTED)).json()
    async with client.get("/api/deploy/stream") as first:
        await first.content.readline()
        assert await error(await client.get("/api/deploy/stream")) == (429, "queue_full")
        await client.delete(f"/api/deploy/{job['id']}")
        assert b"event: end" in await first.read()


class TestChat:
    async def test_it_streams_whatever_its_body_says(self, serve: Serve) -> None:
        client = await serve()
        body = {"model": "m", "stream": False, "messages": [{"role": "user", "content": "Hello"}]}
        answer = await client.post("/api/chat", json=body)
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        assert (await answer.text()).rstrip().endswith("data: [DONE]")
        (row,) = (await (await client.get("/api/requests")).json())["requests"]
        assert (row["model"], row["stream"], row["state"]) == ("m", True, "ok")

    async def test_its_faults_are_those_of_a_completion(self, serve: Serve) -> None:
        client = await serve()
        assert await error(await client.post("/api/chat", json={"model": "nobody", "messages": []})) == (
            404,
            "model_not_found",
        )
        assert await error(await client.post("/api/chat", data="{")) == (400, "invalid_json")
