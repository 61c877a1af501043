"""llamaproxy.telemetry.modelhistory: what happened to models, for a span of time, over restarts, within bounds."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from llamaproxy.config import TelemetryConfig
from llamaproxy.core.breaker import BreakerState
from llamaproxy.core.events import BackendReady, BreakerMoved, Start
from llamaproxy.errors import InvalidRequest
from llamaproxy.telemetry import modelhistory
from llamaproxy.telemetry.history import History
from llamaproxy.telemetry.modelhistory import MOST_REMEMBERED, ModelHistory, Span, parse_range
from llamaproxy.telemetry.store import Store

NOW = 1_000_000.0


class Clock:
    """Nanoseconds since the epoch, which pass when a test says so."""

    seconds = NOW

    def __call__(self) -> int:
        return round(self.seconds * 1e9)


@pytest.fixture
def clock() -> Clock:
    return Clock()


Begin = Callable[[], Awaitable[ModelHistory]]


@pytest.fixture
async def begin(tmp_path: Path, clock: Clock) -> AsyncIterator[Begin]:
    """A gateway's, on the database that those before it have written; the test writes it."""
    made: list[History] = []

    async def beginning() -> ModelHistory:
        for earlier in made:
            await earlier.close()
        made.append(History(TelemetryConfig(database=str(tmp_path / "llamaproxy.db"))))
        return ModelHistory(made[-1], clock)

    yield beginning
    for history in made:
        await history.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "llamaproxy.db")
    yield opened
    await opened.close()


def ids(tmp_path: Path) -> list[int]:
    with closing(sqlite3.connect(tmp_path / "llamaproxy.db")) as connection:
        return [id for (id,) in connection.execute("SELECT timestamp FROM model_events ORDER BY 1")]


def states(span: Span, model: str = "m") -> list[tuple[float, str]]:
    """With how long ago each began."""
    return [(round(span.end - event["at"], 3), event["state"]) for event in span.models[model]]


def moved(state: BreakerState) -> BreakerMoved:
    return BreakerMoved("m", 1, state, "it died")


async def test_model_of_which_nothing_is_known_is_stopped(begin: Begin, store: Store, clock: Clock) -> None:
    past = await begin()
    clock.seconds += 1
    assert states(await past.span("5m", ["m"])) == [(300, "stopped")]


async def test_state_at_the_beginning_comes_first(begin: Begin, store: Store, clock: Clock) -> None:
    past = await begin()
    past.observe(Start("m", 1))
    clock.seconds += 100
    past.observe(BackendReady("m", 1))
    clock.seconds += 250
    span = await past.span("5m", ["m"])
    assert states(span) == [(350, "starting"), (250, "ready")]
    assert (span.end, span.begin) == (NOW + 350, NOW + 50)


async def test_breaker_counts_beside_the_process(begin: Begin, store: Store, clock: Clock) -> None:
    past = await begin()
    clock.seconds += 1
    past.observe(BackendReady("m", 1))
    past.observe(moved(BreakerState.OPEN))
    clock.seconds += 400
    assert [state for _, state in states(await past.span("5m", ["m"]))] == ["ready", "breaker_open"]
    past.observe(moved(BreakerState.CLOSED))
    clock.seconds += 400
    assert [state for _, state in states(await past.span("5m", ["m"]))] == ["ready"]


async def test_what_an_earlier_gateway_wrote_is_there(begin: Begin, store: Store, clock: Clock) -> None:
    first = await begin()
    clock.seconds += 10
    first.observe(BackendReady("m", 1))
    first.observe(moved(BreakerState.OPEN))
    await first.write(store)
    assert len(first) == 0
    clock.seconds += 10
    second = await begin()
    await second.write(store)
    clock.seconds += 5
    span = await second.span("5m", ["m"])
    assert states(span) == [
        *((300, "stopped"), (15, "ready"), (15, "breaker_open")),
        *((5, "stopped"), (5, "breaker_closed")),
    ]
    assert span.models["m"][-2]["text"] == "stopped: the gateway has started anew"


async def test_models_that_are_no_more_are_shown_where_something_happened(
    begin: Begin, store: Store, clock: Clock
) -> None:
    past = await begin()
    clock.seconds += 1
    past.observe(Start("gone", 1))
    assert set((await past.span("5m", ["m"])).models) == {"m", "gone"}
    clock.seconds += 301
    assert set((await past.span("5m", ["m"])).models) == {"m"}


async def test_memory_is_bounded_and_the_database_knows_the_rest(
    begin: Begin, store: Store, clock: Clock, tmp_path: Path
) -> None:
    past = await begin()
    clock.seconds += 1
    for number in range(2 * MOST_REMEMBERED):
        past.observe(Start("m", number))
    await past.write(store)
    assert len(ids(tmp_path)) == 2 * MOST_REMEMBERED + 1
    assert len((await past.span("5m", ["m"])).models["m"]) == 2 * MOST_REMEMBERED + 1


async def test_answer_that_would_be_too_long_begins_later(
    begin: Begin, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modelhistory, "MOST_SHOWN", 3)
    monkeypatch.setattr(modelhistory, "MOST_REMEMBERED", 3)
    past = await begin()
    for number in range(5):
        clock.seconds += 10
        past.observe(Start("m", number))
    await past.write(store)
    span = await past.span("5m", ["m"])
    assert span.end - span.begin == 20
    assert [ago for ago, _ in states(span)] == [30, 20, 10, 0]


async def test_rows_that_are_too_old_or_too_many_go(
    begin: Begin, store: Store, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = await begin()
    for number in range(5):
        clock.seconds += 10
        past.observe(Start("m", number))
    await past.write(store)
    assert not await past.prune(store, NOW + 15)
    assert len(ids(tmp_path)) == 4
    monkeypatch.setattr(modelhistory, "MOST_KEPT", 2)
    await past.prune(store, 0)
    assert ids(tmp_path) == [round((NOW + seconds) * 1e6) for seconds in (40, 50)]


async def test_what_cannot_be_written_waits(begin: Begin, store: Store, tmp_path: Path) -> None:
    past = await begin()
    broken = await Store.open(tmp_path / "broken.db")
    await broken.delete("DROP VIEW models", ())
    await broken.delete("DROP TABLE model_events", ())
    with pytest.raises(sqlite3.OperationalError):
        await past.write(broken)
    await broken.close()
    await past.write(store)
    assert (len(ids(tmp_path)), len(past)) == (1, 0)


async def test_two_gateways_on_one_database_know_nothing_of_each_other(
    begin: Begin, store: Store, clock: Clock, tmp_path: Path
) -> None:
    """A model is ready in the one that was there first, whatever happens to its namesake elsewhere."""
    first = await begin()
    first.observe(BackendReady("m", 1))
    other = History(TelemetryConfig(database=str(tmp_path / "llamaproxy.db")))
    second = ModelHistory(other, clock)
    second.observe(Start("m", 7))
    await first.write(store)
    assert not second, "nothing waits for the database"
    assert states(await first.span("1h", ["m"]))[-1][1] == "ready"
    assert [state for _, state in states(await second.span("1h", ["m"]))] == ["stopped", "starting"]
    await other.close()


async def test_without_a_database_memory_serves(clock: Clock) -> None:
    past = ModelHistory(History(TelemetryConfig(database="off")), clock)
    clock.seconds += 1
    past.observe(Start("m", 1))
    assert len(past) == 0
    assert [state for _, state in states(await past.span("24h", ["m"]))] == ["stopped", "starting"]


async def test_who_follows_hears_of_it(clock: Clock) -> None:
    past = ModelHistory(History(TelemetryConfig(database="off")), clock)
    with past.follow() as news:
        past.observe(Start("m", 1))
        assert [event.state for event in news.take()] == ["starting"]


async def test_models_in_memory_are_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelhistory, "MOST_MODELS", 3)
    past = ModelHistory(History(TelemetryConfig(database="off")), clock)
    for number in range(5):
        clock.seconds += 1
        past.observe(Start(f"m{number}", 1))
    assert set((await past.span("5m", [])).models) == {"m3", "m4"}


def test_range_is_one_of_four() -> None:
    assert parse_range("7d") == "7d"
    with pytest.raises(InvalidRequest, match="5m, 1h, 24h, 7d"):
        parse_range("1w")
