"""llamaproxy.loadtest.sweep: levels and targets in turn, what ends a step, and what there is of one that is stopped."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from llamaproxy.loadtest.sweep import Sweep
from llamaproxy.loadtest.target import Target
from llamaproxy.tasks import spawn
from tests.loadtest.broken import Broken
from tests.loadtest.test_plan import plan


@pytest.fixture
async def server() -> AsyncIterator[Broken]:
    async with Broken("a").running() as server:
        yield server


async def test_each_target_in_turn_at_every_level(server: Broken) -> None:
    first, second = Target(server.url, "first"), Target(server.url, "second")
    sweep = Sweep(plan(prompt_tokens=[10], requests=3), [first, second])
    await sweep.run()
    assert [(step.target, step.level.clients) for step in sweep.steps] == [
        *((first, 1), (second, 1)),
        *((first, 4), (second, 4)),
    ]
    assert [step.figures.requests for step in sweep.steps] == [3, 3, 3, 3]
    assert sweep.progress.startswith("4 of 4 steps")


async def test_no_prompt_is_sent_twice(server: Broken) -> None:
    sweep = Sweep(plan(), [Target(server.url, "good"), Target(server.url, "good")])
    await sweep.warm_up()
    await sweep.run()
    prompts = [body["messages"][0]["content"] for body in server.asked]
    assert len(prompts) == len(set(prompts)) == 2 + 4 * 2 * 5


async def test_as_many_clients_as_the_level_says(server: Broken) -> None:
    sweep = Sweep(plan(clients=[3], prompt_tokens=[10], timeout=0.5, requests=9), [Target(server.url, "hangs")])
    await sweep.run()
    assert server.most_at_once == 3
    assert sweep.steps[0].figures.faults == {"no whole answer within 0.5 s": 9}


async def test_after_its_seconds_no_request_begins(server: Broken) -> None:
    """A clock on which every look takes a second."""
    ticks = iter(range(10_000))
    sweep = Sweep(
        plan(clients=[1], prompt_tokens=[10], requests=1000), [Target(server.url, "good")], lambda: next(ticks)
    )
    await sweep.run()
    assert 1 < sweep.steps[0].figures.requests < 60


async def test_warming_up_counts_nothing(server: Broken) -> None:
    sweep = Sweep(plan(warmup=3), [Target(server.url, "good")])
    assert await sweep.warm_up() is None
    assert (len(server.asked), sweep.steps) == (3, [])


async def test_a_target_that_cannot_be_warmed_up_is_told(server: Broken) -> None:
    good, bad = Target(server.url, "good"), Target(server.url, "fails")
    failed = await Sweep(plan(warmup=3), [good, bad]).warm_up()
    assert failed
    assert (failed[0], failed[1].fault, len(server.asked)) == (bad, "HTTP 500 upstream_error", 4)


async def test_failures_do_not_end_a_step(server: Broken) -> None:
    sweep = Sweep(plan(clients=[1], prompt_tokens=[10], requests=6), [Target(server.url, "every-other")])
    await sweep.run()
    assert sweep.steps[0].figures.faults == {"HTTP 500 upstream_error": 3}
    assert sweep.steps[0].figures.tokens == 6


async def test_what_is_stopped_keeps_what_it_has(server: Broken) -> None:
    sweep = Sweep(plan(clients=[1]), [Target(server.url, "second-hangs")])
    running = spawn(sweep.run(), name="sweep")
    await asyncio.wait_for(server.arrived.wait(), 20)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    [step] = sweep.steps
    assert (step.stopped, step.figures.requests, step.figures.tokens) == (True, 1, 2)
