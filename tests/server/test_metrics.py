"""`GET /metrics`, asked over HTTP and read by Prometheus' own parser."""

import re
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient
from prometheus_client.parser import text_string_to_metric_families

from llamaproxy.core.states import BackendState
from llamaproxy.server import metrics as module
from llamaproxy.telemetry.engines import Engine
from llamaproxy.telemetry.exposition import Reading
from llamaproxy.telemetry.gpu import Gpu
from tests.gateway import PROMPT, chat_body, fake_model
from tests.server.conftest import Serve
from tests.shipping.test_watching import ASKED_FOR, labels

DOCUMENTED = Path(__file__).parents[2] / "docs" / "metrics.md"
Client = TestClient[Any, Any]
Samples = dict[str, dict[tuple[str, ...], float]]


def parse(text: str) -> Samples:
    """By name and the values of the labels, in their order."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert found.setdefault(sample.name, {}).setdefault(tuple(sample.labels.values()), sample.value) is not None
    return found


async def page(client: Client) -> Samples:
    async with client.get("/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = await response.text()
    heads = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(heads) == len(set(heads)), "a family stands in one place"
    return parse(text)


async def chat(client: Client, model: str) -> None:
    async with client.post("/v1/chat/completions", json=chat_body(model)) as response:
        await response.read()


async def test_before_the_first_request_nothing_runs_and_nothing_is_started(serve: Serve) -> None:
    client = await serve()
    for _ in range(3):
        found = await page(client)
    assert found["llamaproxy_backend_state"]["m", "stopped"] == 1
    assert found["llamaproxy_breaker_state"]["org/n", "closed"] == 1
    assert found["llamaproxy_inflight_requests"] == {("m",): 0, ("org/n",): 0}
    assert "llamaproxy_requests_total" not in found
    assert found["llamaproxy_backend_starts_total"] == {("m", "failed"): 0, ("org/n", "failed"): 0}


async def test_from_the_first_request_on_it_agrees_with_the_rows(serve: Serve) -> None:
    client = await serve(limits={"models_max": 1})
    for model in ("m", "m", "org/n", "nobody's"):
        await chat(client, model)
    found = await page(client)
    ok = ("chat/completions", "ok", "200")
    assert found["llamaproxy_requests_total"] == {
        ("m", *ok): 2,
        ("org/n", *ok): 1,
        ("", "chat/completions", "rejected", "404"): 1,
    }
    totals = (await (await client.get("/api/requests")).json())["totals"]
    assert sum(found["llamaproxy_requests_total"].values()) == totals["received"]
    assert found["llamaproxy_request_seconds_count"]["m", "chat/completions"] == 2
    ready = {("m", "ready"): 1, ("org/n", "ready"): 1}
    assert found["llamaproxy_backend_starts_total"] == {**ready, ("m", "failed"): 0, ("org/n", "failed"): 0}
    assert found["llamaproxy_backend_load_seconds_count"] == {("m",): 1, ("org/n",): 1}
    assert found["llamaproxy_evictions_total"] == {("m", "evicted"): 1}
    assert found["llamaproxy_requests_per_minute"] == {("m",): 2, ("org/n",): 1}
    states = found["llamaproxy_backend_state"]
    assert {name for name, value in states.items() if value} == {("m", "stopped"), ("org/n", "ready")}
    assert {state for _, state in states} == set(BackendState)


async def test_failed_starts_and_an_open_breaker(serve: Serve, tmp_path: Path) -> None:
    broken = fake_model(tmp_path, "m", env={"FAKE_EXIT_AT_START": "1"})
    client = await serve(models={"m": broken}, breaker={"start_failures": 1, "open": "60s"})
    await chat(client, "m")
    found = await page(client)
    assert found["llamaproxy_breaker_state"] == {("m", "closed"): 0, ("m", "open"): 1, ("m", "half_open"): 0}
    assert found["llamaproxy_backend_starts_total"] == {("m", "failed"): 1}


async def test_every_metric_is_written_about_and_nothing_else(serve: Serve) -> None:
    """The engines' own are a matter of the engines."""
    client = await serve(keys={})
    await chat(client, "m")
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in await page(client)}
    families |= {f"llamaproxy_gpu_{suffix}" for suffix, _, _ in module._OF_GPUS}
    families = {name for name in families if not name.startswith("llamaproxy_engine_")}
    written = set(re.findall(r"`(llamaproxy_\w+)[`{]", DOCUMENTED.read_text("utf-8")))
    seldom = {
        *(
            "llamaproxy_evictions_total",
            "llamaproxy_refused_requests_total",
            "llamaproxy_key_requests_per_minute",
            "llamaproxy_key_tokens_per_minute",
        ),
        *("llamaproxy_host_cpu_percent", "llamaproxy_host_core_percent", "llamaproxy_memory_bytes"),
    }
    measured = {name for name in written if name.startswith(("llamaproxy_host_", "llamaproxy_process_"))}
    engines = {name for name in written if name.startswith("llamaproxy_engine_")}
    assert families <= written
    assert written - families <= seldom | measured | engines


async def test_prompts_and_keys_stand_nowhere(serve: Serve) -> None:
    client = await serve()
    await chat(client, "m")
    async with client.get("/metrics") as response:
        assert PROMPT not in await response.text()


async def test_head_and_other_methods(serve: Serve) -> None:
    client = await serve()
    assert (await client.head("/metrics")).status == 200
    assert (await client.post("/metrics", json={})).status == 405


def test_engines_share_their_families() -> None:
    readings = (Reading("a_total", "counter", "an a", 1), Reading("b", "gauge", "a b", 2.5))
    other = (Reading("a_total", "gauge", "another a", 9), Reading("b", "gauge", "", 3))
    engines = {"m": Engine(0, readings, {"x_per_second": 4}), "n": Engine(0, other), "o": Engine(0, error="gone")}
    found = parse("".join(module._of_engines(engines, {})))
    assert found == {
        "llamaproxy_engine_up": {("m",): 1, ("n",): 1, ("o",): 0},
        "llamaproxy_engine_a_total": {("m",): 1},
        "llamaproxy_engine_b": {("m",): 2.5, ("n",): 3},
        "llamaproxy_engine_x_per_second": {("m",): 4},
    }


def test_gpus_with_what_each_has() -> None:
    gpus = [Gpu(0, "nvidia", 'a "b"', 50, fan=30), Gpu(0, "amd", "c", 10.5)]
    assert parse("".join(module._of_gpus(gpus))) == {
        "llamaproxy_gpu_utilization_percent": {("nvidia", "0", 'a "b"'): 50, ("amd", "0", "c"): 10.5},
        "llamaproxy_gpu_fan_percent": {("nvidia", "0", 'a "b"'): 30},
    }


def test_engines_that_told_something_new_or_are_gone_are_looked_at_anew() -> None:
    known: module._Lines = {}
    first = Engine(0, (Reading("a", "gauge", "", 1),))
    for engines in ({"m": first, "n": first}, {"m": first, "n": Engine(1, (Reading("a", "gauge", "", 2),))}, {}):
        found = parse("".join(module._of_engines(engines, known)))
        values = {name: engine.readings[0].value for name, engine in engines.items()}
        assert found.get("llamaproxy_engine_a", {}) == {(name,): value for name, value in values.items()}
    assert known == {}


def test_a_scrape_does_not_mind_another_beside_it() -> None:
    known: module._Lines = {}
    one = module._of_engines({"m": Engine(0, (Reading("a", "gauge", "", 1),))}, known)
    begun = next(one) + next(one)
    assert list(module._of_engines({}, known))
    assert parse(begun + "".join(one))["llamaproxy_engine_a"] == {("m",): 1}


async def test_what_the_alerts_and_the_dashboard_ask_for_is_there(serve: Serve) -> None:
    """But for keys, for engines, which tell nothing here, and for GPUs, which not every machine has."""
    client = await serve(limits={"models_max": 1})
    for model in ("m", "org/n", "m"):
        await chat(client, model)
    async with client.get("/metrics") as response:
        text = await response.text()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = {sample.name: set(sample.labels) for sample in samples}
    absent = re.compile(r"llamaproxy_(gpu|engine|key)_")
    assert {name for name in ASKED_FOR if not absent.match(name)} <= set(found)
    assert [name for name in ASKED_FOR & set(found) if found[name] != labels(name)] == []
