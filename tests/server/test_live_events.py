"""llamaproxy.server.live_events: what a page asks is answered by the routes, as docs/websocket.md has it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from llamaproxy.server.live_events import EVENTS
from tests.gateway import fake_model
from tests.server.conftest import Serve
from tests.server.watching import Message, watching

DOCUMENT = Path(__file__).parents[2] / "docs" / "websocket.md"


def examples(kind: str) -> list[Message]:
    blocks = re.findall(r"^```json\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [example for block in blocks for line in block.splitlines() if (example := json.loads(line))["type"] == kind]


def test_every_event_has_an_example_and_a_line() -> None:
    assert {example["event"] for example in examples("request")} == EVENTS.keys() | {"subscribe", "ping"}
    told = set(re.findall(r"`([a-z]+:[a-z-]+)`", DOCUMENT.read_text("utf-8")))
    assert EVENTS.keys() <= told


async def test_every_example_is_answered(serve: Serve, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    fake_model(files, "small")
    file, models = tmp_path / "llamaproxy.toml", {"qwen3": fake_model(tmp_path, "qwen3")}
    client = await serve(file, models=models, catalog={"models_dir": str(files)})
    async with watching(client) as page:
        for example in examples("request"):
            answer = await page.send(example)
            assert answer.keys() == examples("response")[0].keys()
            assert (answer["requestId"], answer["event"]) == (example["requestId"], example["event"])
            if example["event"] == "requests:cancel":
                assert answer["error"]["code"] == "not_found"
            else:
                assert (answer["success"], answer["error"]) == (True, None), answer


async def test_broadcasts_are_as_they_are_written_about(serve: Serve, tmp_path: Path) -> None:
    client = await serve(models={"qwen3": fake_model(tmp_path, "qwen3")}, telemetry={"metrics_interval": "500ms"})
    written = {example["event"]: example for example in examples("broadcast")}
    async with watching(client) as page:
        hello = await page.next("hello")
        assert (hello.keys(), hello["data"].keys()) == (written["hello"].keys(), written["hello"]["data"].keys())
        await page.subscribe("models", "metrics", "requests", "logs", "config")
        await page.ask("models:start", name="qwen3")
        wanted = {
            "models:status",
            "models:updated",
            "metrics:update",
            "requests:update",
            "logs:entry",
            "config:updated",
        }
        while wanted:
            told = await page.anything()
            example = written[told["event"]]
            assert (told.keys(), told["data"].keys()) == (example.keys(), example["data"].keys())
            assert told["topic"] == example["topic"]
            if told["event"] == "models:status" and "models:status" in wanted:
                # Only now: changes of one model that come together are told as one.
                await client.post("/v1/completions", json={"model": "qwen3", "prompt": "x"})
                await page.ask("models:pin", name="qwen3")
                await page.ask("settings:update", limits={"models_max": 7})
            wanted.discard(told["event"])


async def test_answers_are_those_of_the_routes(serve: Serve) -> None:
    client = await serve()
    async with watching(client) as page:
        for event, path in (
            ("config:get", "/api/config"),
            ("requests:list", "/api/requests"),
            ("keys:list", "/api/keys"),
        ):
            assert (await page.ask(event))["data"] == await (await client.get(path)).json()


@pytest.mark.parametrize(
    ("event", "data", "code"),
    [
        ("models:get", {"name": "nobody"}, "model_not_found"),
        ("models:get", {"name": "../requests"}, "model_not_found"),
        ("models:get", {"name": "m/start?x=#"}, "model_not_found"),
        ("models:get", {"name": "\x00\n\ud7ff"}, "model_not_found"),
        ("models:get", {"name": ""}, "invalid_request"),
        ("models:get", {"name": None}, "invalid_request"),
        ("models:get", {"name": ["m"]}, "invalid_request"),
        ("models:get", {}, "invalid_request"),
        ("models:start", {"name": "m", "other": 1}, "invalid_request"),
        ("logs:get", {"limit": -1}, "invalid_request"),
        ("logs:get", {"limit": [1]}, "invalid_request"),
        ("metrics:history", {"range": "1h&range=24h"}, "invalid_request"),
        ("settings:update", {"limits": {"models_max": 0}}, "invalid_request"),
        ("settings:update", {"engine": {"binary": "/bin/sh"}}, "invalid_request"),
        ("requests:cancel", {"id": "nobody's"}, "not_found"),
        ("no:such", {}, "unknown_event"),
        ("__class__", {}, "unknown_event"),
    ],
)
async def test_what_cannot_be_asked(event: str, data: dict[str, Any], code: str, serve: Serve) -> None:
    client = await serve()
    async with watching(client) as page:
        answer = await page.ask(event, **data)
        assert (answer["success"], answer["error"]["code"], answer["data"]) == (False, code, None), answer


async def test_names_may_have_slashes(serve: Serve) -> None:
    async with watching(await serve()) as page:
        assert (await page.ask("models:get", name="org/n"))["data"]["name"] == "org/n"


async def test_every_event_has_a_route(serve: Serve) -> None:
    routes: set[tuple[str, str]] = set()
    client = await serve()
    document = await (await client.get("/api/openapi.json")).json()
    for path, methods in document["paths"].items():
        routes |= {(method.upper(), path) for method in methods}
    assert [event for event, route in EVENTS.items() if route not in routes] == []
