"""What a real engine tells of itself is what the gateway has counted: a newer page is found out here."""

import asyncio
import time
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from tests.gateway import PATIENCE, Client

Samples = dict[tuple[str, ...], float]
Page = dict[str, Samples]
MODEL = ("alpha",)


async def page(client: Client) -> Page:
    async with client.session.get(client.gateway.url + "/metrics") as response:
        text = await response.text()
    found: Page = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


async def until(client: Client, condition: Callable[[Page], bool]) -> Page:
    """The first page of which this is true: engines are asked now and then."""
    end = time.monotonic() + PATIENCE
    while not condition(found := await page(client)):
        assert time.monotonic() < end, found
        await asyncio.sleep(0.1)
    return found


def engines(found: Page, name: str = "up") -> Samples:
    return found.get(f"llamaproxy_engine_{name}", {})


async def test_counts_of_the_engine_are_ours(client: Client) -> None:
    async with client.stream("alpha", max_tokens=8) as response:
        await response.read()
    assert (await client.chat("alpha", max_tokens=4))[0] == 200
    ours = {kind: value for (_, _, kind), value in (await page(client))["llamaproxy_tokens_total"].items()}
    assert 0 < ours["completion"] <= 12
    found = await until(client, lambda found: engines(found, "tokens_predicted_total") == {MODEL: ours["completion"]})
    assert engines(found, "prompt_tokens_cached_total") == {MODEL: ours["cached"]}
    assert engines(found, "prompt_tokens_total") == {MODEL: ours["prompt"] - ours["cached"]}
    assert engines(found, "requests_processing") == {MODEL: 0}
    assert engines(found) == {MODEL: 1}
    assert not engines(found, "predicted_tokens_seconds")


async def test_metrics_leave_with_the_engine(client: Client) -> None:
    assert (await client.chat("alpha", max_tokens=1))[0] == 200
    await until(client, lambda found: engines(found).keys() == {MODEL})
    assert (await client.chat("beta", max_tokens=1))[0] == 200
    found = await until(client, lambda found: engines(found).keys() == {("beta",)})
    assert found["llamaproxy_evictions_total"] == {("alpha", "evicted"): 1}
