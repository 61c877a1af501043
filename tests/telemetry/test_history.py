"""llamaproxy.telemetry.history: one list of requests, wherever their rows are."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from llamaproxy.config import TelemetryConfig
from llamaproxy.telemetry.history import History, location
from llamaproxy.telemetry.ledger import ROWS_KEPT, RequestRow, RequestState
from llamaproxy.telemetry.query import Query, parse
from llamaproxy.telemetry.series import COLUMNS
from tests.gateway import until

Begin = Callable[[TelemetryConfig], History]


class TestLocation:
    def test_it_is_the_users_state_directory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platformdirs.user_state_path", lambda name: Path("/state") / name)
        assert location(None, {}) == Path("/state/llamaproxy/llamaproxy.db")

    @pytest.mark.parametrize("directories", ["/var/lib/lp", "/var/lib/lp:/var/lib/other"])
    def test_systemd_knows_better(self, directories: str) -> None:
        assert location(None, {"STATE_DIRECTORY": directories}) == Path("/var/lib/lp/llamaproxy.db")

    def test_configuration_knows_best(self) -> None:
        assert location("/data/x.db", {"STATE_DIRECTORY": "/var/lib/lp"}) == Path("/data/x.db")
        assert location("~/x.db", {}) == Path.home() / "x.db"

    @pytest.mark.parametrize("word", ["", "off"])
    def test_there_may_be_none(self, word: str) -> None:
        assert location(word, {"STATE_DIRECTORY": "/var/lib/lp"}) is None


@pytest.fixture
def settings(tmp_path: Path) -> TelemetryConfig:
    return TelemetryConfig(database=str(tmp_path / "llamaproxy.db"))


@pytest.fixture
async def begin() -> AsyncIterator[Callable[[TelemetryConfig], History]]:
    """Histories that are closed whatever becomes of the test: an open connection keeps the interpreter from ending."""
    begun: list[History] = []

    def beginning(settings: TelemetryConfig) -> History:
        begun.append(History(settings))
        begun[-1].start()
        return begun[-1]

    yield beginning
    for history in begun:
        await history.close()


@pytest.fixture
async def history(begin: Begin, settings: TelemetryConfig) -> History:
    return begin(settings)


def add(history: History, name: str, state: RequestState = RequestState.OK) -> RequestRow:
    row = history.ledger.open(RequestRow(name, "models", "openai", "127.0.0.1"))
    if state is not RequestState.IN_FLIGHT:
        history.ledger.close(row, state, 200)
    return row


async def ids(history: History, query: Query | None = None) -> list[str]:
    return [row["id"] for row in (await history.page(query or Query(limit=1000))).rows]


def spoil(path: Path) -> None:
    """All but the first two pages."""
    content = path.read_bytes()
    path.write_bytes(content[: 4096 * 2].ljust(len(content), b"\xa5"))


async def written(history: History) -> None:
    await until(lambda: not history.health()["spooled_rows"], "rows are written")


async def test_row_is_shown_once_on_its_way_to_the_database(history: History) -> None:
    row = add(history, "a", RequestState.IN_FLIGHT)
    assert await ids(history) == ["a"]
    history.ledger.close(row, RequestState.OK, 200)
    assert await ids(history) == ["a"]
    await written(history)
    assert await ids(history) == ["a"]


async def test_more_rows_than_memory_keeps(history: History) -> None:
    for number in range(ROWS_KEPT + 500):
        add(history, str(number))
    await written(history)
    seen: list[str] = []
    query = Query(limit=400)
    while (page := await history.page(query)).rows:
        seen += [row["id"] for row in page.rows]
        if page.next is None:
            break
        query = parse({"limit": "400", "before": page.next})
    assert seen == [str(number) for number in reversed(range(ROWS_KEPT + 500))]


async def test_another_process_goes_on_where_one_has_ended(
    history: History, begin: Begin, settings: TelemetryConfig
) -> None:
    add(history, "a")
    await history.close()
    later = begin(settings)
    add(later, "b")
    assert await ids(later) == ["b", "a"]
    assert (await later.find("a") or {})["state"] == "ok"
    assert later.ledger.received == 1


async def test_database_that_cannot_be_read_is_made_up_for_by_memory(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    history = begin(TelemetryConfig(database=str(tmp_path / "file" / "llamaproxy.db")))
    add(history, "a")
    add(history, "b", RequestState.IN_FLIGHT)
    await until(lambda: history.trouble, "it is told")
    assert await ids(history) == ["b", "a"]
    (used,) = await history.usage(("model",), 0)
    assert used["requests"] == 1
    assert used["duration_ms_p95"] is not None
    assert history.health()["spooled_rows"] == 1


async def test_corruption_that_a_reader_meets_is_looked_into(
    history: History, begin: Begin, settings: TelemetryConfig
) -> None:
    for number in range(2000):
        add(history, str(number))
    await history.close()
    path = Path(settings.database or "")
    spoil(path)
    later = begin(settings)
    await ids(later)
    await until(lambda: list(path.parent.glob("*.corrupt-*")), "it is moved aside")
    add(later, "new")
    await written(later)
    assert await ids(later) == ["new"]


async def test_requests_in_flight_need_no_database(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    add(history, "a")
    add(history, "b", RequestState.IN_FLIGHT)
    monkeypatch.setattr(history, "fetch", None)
    assert await ids(history, Query(state=RequestState.IN_FLIGHT)) == ["b"]


async def test_reload_changes_how_long_rows_are_kept_and_not_where(
    history: History, settings: TelemetryConfig, caplog: pytest.LogCaptureFixture
) -> None:
    history.reconfigure(settings.model_copy(update={"retention": 60.0}))
    assert history._keep().seconds == 60
    assert not caplog.text
    history.reconfigure(settings.model_copy(update={"database": "off"}))
    assert "by a restart only" in caplog.text


async def test_everybody_hears_of_a_row_that_has_ended(settings: TelemetryConfig) -> None:
    for database in (settings.database, "off"):
        heard: list[RequestRow] = []
        history = History(TelemetryConfig(database=database), heard.append)
        history.start()
        row = add(history, "a")
        assert heard == [row]
        assert await ids(history) == ["a"]
        await history.close()


async def test_machines_past_outlives_the_process(history: History, begin: Begin, settings: TelemetryConfig) -> None:
    history.sample(1234, [1.0] * len(COLUMNS))
    assert history.series.columns("1h", 1240)["timestamp"] == [1230]
    await history.close()
    later = begin(settings)
    await until(lambda: later.series.columns("1h", 1240)["timestamp"] == [1230], "it is read")


async def test_machines_past_without_a_database(begin: Begin) -> None:
    history = begin(TelemetryConfig(database="off"))
    history.sample(1234, [1.0] * len(COLUMNS))
    assert history.series.columns("24h", 1240)["load"] == (1.0,)


async def test_no_log_of_writes_is_left_beside_the_database(settings: TelemetryConfig, tmp_path: Path) -> None:
    history = History(settings)
    history.start()
    add(history, "a")
    await written(history)
    assert await ids(history) == ["a"]
    await history.close()
    assert "llamaproxy.db-wal" not in os.listdir(tmp_path)
