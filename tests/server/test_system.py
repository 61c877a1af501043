"""`/api/system` and `/api/system/history`, asked over HTTP."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from llamaproxy.server.monitor import Monitor
from llamaproxy.telemetry.series import COLUMNS, TIERS
from tests.gateway import chat_body, fake_model
from tests.server.conftest import Serve

Client = TestClient[Any, Any]


async def get(client: Client, path: str, status: int = 200) -> Any:
    async with client.get(path) as response:
        assert response.status == status
        return await response.json()


async def machine(client: Client) -> Any:
    """Once the first looks have come back."""
    while (found := await get(client, "/api/system"))["host"] is None or found["disk"] is None:
        continue
    return found


async def test_machine(serve: Serve) -> None:
    client = await serve()
    found = await machine(client)
    assert found["host"]["memory_total"] > found["host"]["memory_used"] > 0
    assert found["host"]["process"]["memory"] > 0
    assert found["disk"]["total"] > 0
    assert found["os"]["cores"] >= 1
    assert found["models"] == {"stopped": 2}
    assert found["engines"] == {}
    assert found["requests"] == {"in_flight": 0, "queued": 0}


async def test_without_a_gpu_the_reason_is_told(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise RuntimeError("no GPU is played here")

    monkeypatch.setattr("llamaproxy.telemetry.gpu.nvidia", none)
    client = await serve()
    while "nvidia" not in (found := await machine(client))["reasons"]:
        continue
    assert found["reasons"]["nvidia"] == "no GPU is played here"
    assert [gpu for gpu in found["gpus"] if gpu["vendor"] == "nvidia"] == []


async def test_engine_that_was_used(serve: Serve) -> None:
    def has_rested() -> bool:
        """The first look may come while it generates."""
        metrics = found["engines"].get("m", {}).get("metrics", {})
        return bool(metrics.get("tokens_predicted_total", 0) > 0 and metrics["requests_processing"] == 0)

    client = await serve(telemetry={"metrics_interval": "500ms"})
    async with client.post("/v1/chat/completions", json=chat_body("m")) as response:
        assert response.status == 200
    found = await get(client, "/api/system")
    while not has_rested():
        found = await get(client, "/api/system")
    assert found["engines"]["m"]["error"] is None
    assert found["per_minute"]["requests"] == found["per_minute"]["models"]["m"]["requests"] == 1


async def test_speed_moves_while_an_answer_is_on_its_way(serve: Serve, tmp_path: Path) -> None:
    """One token every 50 ms, and no end of it."""
    model = fake_model(tmp_path, "m", env={"FAKE_TOKEN_SECONDS": "0.05"})
    client = await serve(models={"m": model}, telemetry={"metrics_interval": "500ms"})
    body = {**chat_body("m"), "stream": True, "max_tokens": 10_000}
    async with client.post("/v1/chat/completions", json=body):
        found = await get(client, "/api/system")
        while not found["generation_per_second"]:
            found = await get(client, "/api/system")
        assert found["requests"]["in_flight"] == 1


async def test_past_is_bounded_and_has_every_column(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monitors: list[Monitor] = []
    start = Monitor.start

    def remembered(self: Monitor) -> None:
        monitors.append(self)
        start(self)

    monkeypatch.setattr(Monitor, "start", remembered)
    client = await serve()
    begun = monitors[0]._sampled * 10
    for step in range(-4000, 0):
        monitors[0]._history.series.add(begun + 10 * step, [float(step)] * len(COLUMNS))
    for name, (step, most) in TIERS.items():
        found = await get(client, f"/api/system/history?range={name}")
        assert (found["range"], found["step"]) == (name, step)
        assert found["columns"].keys() == {"timestamp", *COLUMNS}
        assert {len(column) for column in found["columns"].values()} == {len(found["columns"]["timestamp"])}
        assert 0 < len(found["columns"]["timestamp"]) <= most
    assert (await get(client, "/api/system/history"))["range"] == "1h"


@pytest.mark.parametrize("query", ["range=", "range=1d", "range=1h%00", "range=" + "9" * 5000])
async def test_past_that_cannot_be_asked_for(query: str, serve: Serve) -> None:
    client = await serve()
    error = (await get(client, f"/api/system/history?{query}", 400))["error"]
    assert (error["code"], error["param"]) == ("invalid_request", "range")
