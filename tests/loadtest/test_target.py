"""llamaproxy.loadtest.target: what a request comes to, with servers that do everything wrong."""

import time
from collections.abc import AsyncIterator

import pytest

from llamaproxy.loadtest.answer import Answer
from llamaproxy.loadtest.plan import Level
from llamaproxy.loadtest.target import Asker, Target
from tests.loadtest.broken import Broken
from tests.loadtest.test_plan import plan

SOON = 0.3


@pytest.fixture
async def server() -> AsyncIterator[Broken]:
    async with Broken("a", "b").running() as server:
        yield server


async def ask(url: str, model: str, stream: bool = True, timeout: float = 20.0, key: str | None = None) -> Answer:
    async with Asker(Target(url, model, key), timeout, time.monotonic) as asker:
        return await asker.chat(plan(stream=stream).body(model, Level(1, 5, 2), 0))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_good_answer(server: Broken, stream: bool) -> None:
    answer = await ask(server.url, "good", stream)
    assert (answer.fault, answer.status, answer.usage.completion, answer.usage.exact) == ("", 200, 2, True)
    assert (answer.first is not None) is stream


async def test_the_key_is_shown(server: Broken) -> None:
    await ask(server.url, "good", key="k")
    assert server.keys == {"Bearer k"}


@pytest.mark.parametrize(
    ("model", "status", "fault"),
    [
        ("fails", 500, "HTTP 500 upstream_error"),
        ("denied", 401, "HTTP 401 invalid_api_key"),
        ("elsewhere", 307, "HTTP 307"),
        ("resets", None, "the connection was closed without an answer"),
        ("cut", 200, "the answer broke off"),
    ],
)
async def test_what_goes_wrong_is_told(server: Broken, model: str, status: int | None, fault: str) -> None:
    answer = await ask(server.url, model)
    assert (answer.status, answer.fault, answer.late) == (status, fault, False)
    assert len(server.asked) == 1


async def test_nobody_there_is_told_in_a_few_words() -> None:
    assert (await ask("http://127.0.0.1:9", "m")).fault == "no connection: Connection refused"


@pytest.mark.parametrize("model", ["hangs", "endless"])
async def test_nobody_waits_for_ever(server: Broken, model: str) -> None:
    answer = await ask(server.url, model, timeout=SOON)
    assert (answer.fault, answer.late) == ("no whole answer within 0.3 s", True)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://", "http://127.0.0.1:0"])
async def test_nobody_is_there(url: str) -> None:
    answer = await ask(url, "good")
    assert answer.fault
    assert answer.status is None


async def test_equal_faults_have_equal_words(server: Broken) -> None:
    assert len({(await ask(server.url, "resets")).fault for _ in range(3)}) == 1


async def test_models(server: Broken) -> None:
    async with Asker(Target(server.url, ""), 20.0, time.monotonic) as asker:
        names, answer = await asker.models()
    assert (names, answer.status) == (["a", "b"], 200)


async def test_no_models() -> None:
    async with Asker(Target("http://127.0.0.1:9", ""), 20.0, time.monotonic) as asker:
        names, answer = await asker.models()
    assert (names, answer.status) == ([], None)
