"""llamaproxy.server.logs: the log over HTTP, of a whole gateway with fake engines."""

import logging
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from tests.gateway import chat_body, fake_model
from tests.server.conftest import Serve

Client = TestClient[Any, Any]


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    """Set for the process, and set back at the end, whatever a test makes of it."""
    caplog.set_level(logging.INFO, logger="llamaproxy")


async def get(client: Client, path: str) -> tuple[int, Any]:
    async with client.get(path) as response:
        return response.status, await response.json()


async def lines(client: Client, query: str = "") -> list[dict[str, Any]]:
    status, page = await get(client, f"/api/logs?limit=1000{query}")
    assert status == 200, page
    found: list[dict[str, Any]] = page["logs"]
    return found


async def chat(client: Client, model: str = "m", request_id: str = "r-1") -> int:
    async with client.post(
        "/v1/chat/completions", json=chat_body(model), headers={"X-Request-Id": request_id}
    ) as response:
        await response.read()
        return response.status


async def test_life_of_a_model_can_be_read(serve: Serve) -> None:
    client = await serve()
    assert await chat(client) == 200
    told = await lines(client, "&model=m")
    assert any(line["source"] == "engine" for line in told)
    assert any("m: ready" in line["message"] and line["source"] == "backends.spawn" for line in told)
    assert [line["id"] for line in told] == sorted((line["id"] for line in told), reverse=True)
    assert not await lines(client, "&model=org/n")


async def test_line_of_a_request_has_its_id_and_its_model(serve: Serve, tmp_path: Any) -> None:
    models = {"m": fake_model(tmp_path, "m"), "n": fake_model(tmp_path, "n")}
    client = await serve(models=models, limits={"models_max": 1, "linger": "0s"}, kv={"carry": False})
    await chat(client, "m", "r-1")
    await chat(client, "n", "r-2")
    (stopping,) = await lines(client, "&request_id=r-2")
    assert (stopping["model"], stopping["message"].split(" (")[0]) == ("m", "m: stopping")
    assert not await lines(client, "&request_id=r-1")


async def test_life_of_a_model_belongs_to_no_request(serve: Serve) -> None:
    client = await serve()
    await chat(client)
    started = [line for line in await lines(client, "&model=m") if "started" in line["message"]]
    assert [line["request_id"] for line in started] == [None]


async def test_pages_follow_one_another(serve: Serve) -> None:
    client = await serve()
    await chat(client)
    everything = [line["id"] for line in await lines(client)]
    seen: list[int] = []
    before = ""
    while True:
        _, page = await get(client, f"/api/logs?limit=3{before}")
        seen += [line["id"] for line in page["logs"]]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert seen[: len(everything)] == everything or set(everything) <= set(seen)


async def test_who_follows_by_asking_misses_nothing(serve: Serve) -> None:
    client = await serve()
    _, page = await get(client, "/api/logs?after=0")
    assert page["logs"] == [] or page["next"] == page["logs"][-1]["id"]
    await chat(client)
    told = [line["id"] for line in await lines(client)][::-1]
    followed: list[int] = []
    after = page["next"]
    while True:
        _, page = await get(client, f"/api/logs?limit=2&after={after}")
        if not page["logs"]:
            break
        followed += [line["id"] for line in page["logs"]]
        after = page["next"]
    assert followed == told
    assert page["next"] == after, "and goes on from there"


async def test_text_is_found_in_what_pages_of_any_size_would_show(serve: Serve) -> None:
    client = await serve()
    await chat(client)
    everything = await lines(client)
    wanted = [line["id"] for line in everything if "ready" in line["message"].lower()]
    found = await lines(client, "&q=READY")
    assert wanted and [line["id"] for line in found] == wanted
    _, page = await get(client, "/api/logs?q=no+such+line")
    assert (page["logs"], page["next"]) == ([], None), "nothing is older"


async def test_secret_is_not_found_by_guessing(serve: Serve) -> None:
    client = await serve()
    logging.getLogger("llamaproxy").info("authorization: Bearer guessable-secret-0123456789")
    assert len(await lines(client, "&q=authorization")) == 1
    assert not await lines(client, "&q=guessable")


async def test_deleted_lines_are_gone(serve: Serve) -> None:
    client = await serve()
    await chat(client)
    async with client.delete("/api/logs") as response:
        assert (response.status, await response.json()) == (200, {"success": True})
    assert not [line for line in await lines(client) if "m: ready" in line["message"]]


@pytest.mark.parametrize("query", ["limit=0", "level=loud", "before=x", "since=nan", "model=%1b", "after=-1", "q=%00"])
async def test_what_is_no_question_is_refused(serve: Serve, query: str) -> None:
    status, answer = await get(await serve(), f"/api/logs?{query}")
    assert (status, answer["error"]["code"]) == (400, "invalid_request")
    assert answer["error"]["param"] == query.partition("=")[0]


async def test_level_is_changed_while_it_runs(serve: Serve) -> None:
    client = await serve()
    async with client.patch("/api/settings", json={"telemetry": {"log_level": "warning"}}) as response:
        assert response.status == 200
    await chat(client)
    assert not [line for line in await lines(client) if line["source"] == "backends.spawn"]
    assert [line for line in await lines(client) if line["source"] == "engine"], "engines have levels of their own"


async def test_answers_tell_what_was_lost(serve: Serve) -> None:
    _, page = await get(await serve(), "/api/logs")
    assert (page["rows_dropped"], page["file_lines_dropped"], page["directory"]) == (0, 0, None)
