"""The meter counts what the engine itself has counted: a newer one that tells it in another way is found out here."""

from collections.abc import Iterator

import pytest

from llamaproxy.backends.engine import find
from llamaproxy.core.routing import ENDPOINTS
from llamaproxy.core.usage import Usage, meter
from tests.core.record import LEFT, PLAIN, Engine, engine

from .conftest import ENGINES

WHOLE = ("chat", "chat-usage", "chat-unary", "completions", "native", "responses", "messages", "messages-unary")


@pytest.fixture(scope="module", params=ENGINES)
def running(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with engine(*find(request.param).program, "-c", "4096", "-np", "4") as this:
        yield this


def metered(
    running: Engine, path: str, body: dict[str, object], most: int | None = None
) -> tuple[Usage, dict[str, int]]:
    _, content, counters = running.measure(path, body, most)
    this = meter(ENDPOINTS[path].dialect, bool(body.get("stream")))
    this.feed(content)
    return this.usage, counters


@pytest.mark.parametrize("name", WHOLE)
def test_whole_answers(running: Engine, name: str) -> None:
    usage, counters = metered(running, *PLAIN[name])
    assert usage.exact
    assert (usage.completion, usage.cached) == (counters["completion"], counters["cached"])
    assert usage.prompt == counters["prompt"] + counters["cached"]


@pytest.mark.parametrize("name", ["chat-left", "native-left"])
def test_answers_that_the_client_left(running: Engine, name: str) -> None:
    """The engine goes on until it notices."""
    path, body, events = LEFT[name]
    usage, counters = metered(running, path, body, events)
    assert not usage.exact
    assert events - 4 <= usage.completion <= counters["completion"]
