"""llamaproxy.server.live_topics: what a page learns of a gateway at work."""

import logging
from typing import Any

from aiohttp.test_utils import TestClient

from tests.gateway import chat_body, fake_model
from tests.models.ggufs import write
from tests.server.conftest import Serve
from tests.server.test_live import KEYS
from tests.server.watching import Watcher, watching

Client = TestClient[Any, Any]


async def chat(client: Client, model: str = "m") -> None:
    async with client.post("/v1/chat/completions", json=chat_body(model)) as response:
        assert response.status == 200
        await response.read()


async def state(page: Watcher, name: str, wanted: str) -> dict[str, Any]:
    """The model, once it is told to be in this state."""
    while True:
        for model in (await page.next("models:status"))["data"]["models"]:
            if (model["name"], model["state"]) == (name, wanted):
                found: dict[str, Any] = model
                return found


class TestModels:
    async def test_snapshot_is_the_list(self, serve: Serve) -> None:
        client = await serve()
        async with watching(client) as page:
            listed = await (await client.get("/api/models")).json()
            assert (await page.subscribe("models"))["snapshot"]["models"] == listed

    async def test_only_what_changed_is_told(self, serve: Serve) -> None:
        client = await serve()
        async with watching(client) as page:
            await page.subscribe("models")
            assert (await page.ask("models:start", name="m"))["data"]["name"] == "m"
            told = await page.next("models:status")
            assert [model["name"] for model in told["data"]["models"]] == ["m"]
            if told["data"]["models"][0]["state"] != "ready":
                assert (await state(page, "m", "ready"))["pid"]

    async def test_models_that_come_go_and_become_others(self, serve: Serve, tmp_path: Any) -> None:
        folder = tmp_path / "models"
        folder.mkdir()
        write(folder / "a.gguf")
        client = await serve(models={}, catalog={"models_dir": str(folder), "bundled": False})
        async with watching(client) as page:
            await page.subscribe("models")
            write(folder / "b.gguf")
            await page.ask("llama:rescan")
            assert [m["name"] for m in (await page.next("models:created"))["data"]["models"]] == ["b"]
            await page.ask("models:pin", name="a")
            (updated,) = (await page.next("models:updated"))["data"]["models"]
            assert (updated["name"], updated["pinned"]) == ("a", True)
            (folder / "b.gguf").unlink()
            await page.ask("llama:rescan")
            assert (await page.next("models:deleted"))["data"] == {"names": ["b"]}


async def test_metrics_are_those_of_the_system(serve: Serve) -> None:
    client = await serve(telemetry={"metrics_interval": "500ms"})
    async with watching(client) as page:
        snapshot = (await page.subscribe("metrics"))["snapshot"]["metrics"]
        system = await (await client.get("/api/system")).json()
        told = (await page.next("metrics:update"))["data"]
        assert snapshot.keys() == told.keys() == system.keys()
        assert told["time"] > snapshot["time"]


class TestRequests:
    async def test_progress_and_end(self, serve: Serve, tmp_path: Any) -> None:
        slow = fake_model(tmp_path, "m", env={"FAKE_TOKEN_SECONDS": "0.1"})
        client = await serve(models={"m": slow})
        await chat(client)
        async with watching(client) as page:
            snapshot = (await page.subscribe("requests"))["snapshot"]["requests"]
            assert (snapshot["in_flight"], snapshot["total"]) == ([], 0)
            assert [row["state"] for row in snapshot["finished"]] == ["ok"]
            async with client.post("/v1/chat/completions", json={**chat_body("m"), "stream": True, "max_tokens": 50}):
                told = (await page.next("requests:update"))["data"]
                while told["in_flight"][0]["phase"] != "generating":
                    told = (await page.next("requests:update"))["data"]
                (row,) = told["in_flight"]
                assert (told["total"], row["state"]) == (1, "in_flight")
                assert row["completion_tokens"] and row["duration_ms"] > 0
            while not told["finished"]:
                told = (await page.next("requests:update"))["data"]
            assert (told["finished"][0]["id"], told["total"]) == (row["id"], 0)
            assert "phase" not in told["finished"][0]

    async def test_nothing_in_flight_and_nothing_ended_is_not_told(self, serve: Serve) -> None:
        client = await serve(telemetry={"metrics_interval": "500ms"})
        async with watching(client) as page:
            await page.subscribe("requests", "metrics")
            for _ in range(2):
                await page.next("metrics:update")
            assert (await page.subscribe("requests"))["seq"] == {"requests": 0}


class TestLogs:
    async def test_each_line_is_told_once(self, serve: Serve) -> None:
        client = await serve(telemetry={"database": "off"})
        logger = logging.getLogger("llamaproxy.test")
        logger.warning("before")
        async with watching(client) as page, watching(client) as late:
            snapshot = (await page.subscribe("logs"))["snapshot"]["logs"]["entries"]
            assert snapshot[-1]["message"] == "before"
            assert [entry["id"] for entry in snapshot] == sorted(entry["id"] for entry in snapshot)
            logger.warning("waits to be told")
            seen = (await late.subscribe("logs"))["snapshot"]["logs"]["entries"]
            seen += (await late.next("logs:entry"))["data"]["entries"]
            assert [entry["message"] for entry in seen][-2:] == ["before", "waits to be told"]
            assert (await page.next("logs:entry"))["data"]["entries"][0]["message"] == "waits to be told"

    async def test_flood_is_cut_to_its_newest_lines(self, serve: Serve) -> None:
        client = await serve()
        async with watching(client) as page:
            await page.subscribe("logs")
            for number in range(1000):
                logging.getLogger("llamaproxy.test").warning("line %d", number)
            told = (await page.next("logs:entry"))["data"]
            assert [told["entries"][at]["message"] for at in (0, -1)] == ["line 800", "line 999"]
            assert told["dropped"] == 800

    async def test_lines_are_bounded_together(self, serve: Serve) -> None:
        client = await serve()
        async with watching(client) as page:
            await page.subscribe("logs")
            for _ in range(150):
                logging.getLogger("llamaproxy.test").warning("x" * 4000)
            told = (await page.next("logs:entry"))["data"]
            assert 0 < len(told["entries"]) < 70
            assert len(told["entries"]) + told["dropped"] == 150

    async def test_cleared(self, serve: Serve) -> None:
        client = await serve()
        async with watching(client) as page:
            await page.subscribe("logs")
            logging.getLogger("llamaproxy.test").warning("gone")
            await page.ask("logs:clear")
            logging.getLogger("llamaproxy.test").warning("new")
            await page.next("logs:cleared")
            entries = (await page.next("logs:entry"))["data"]["entries"]
            assert [entry["message"] for entry in entries] == ["new"]
            assert [e["message"] for e in (await page.subscribe("logs"))["snapshot"]["logs"]["entries"]] == ["new"]


async def test_that_the_configuration_is_another(serve: Serve) -> None:
    boss = {"Authorization": "Bearer lp-boss"}
    client = await serve(keys=KEYS)
    async with watching(client, **boss) as page:
        await page.subscribe("config")
        await page.ask("settings:update", limits={"models_max": 5})
        assert (await page.next("config:updated"))["seq"] == 1
        assert (await page.next("settings:updated"))["seq"] == 2
        await client.post("/api/keys", json={"name": "new"}, headers=boss)
        told = await page.next("keys:updated")
        assert (told["seq"], told["data"]) == (3, {})
