"""llamaproxy.telemetry.writer: every row gets there, once, and nobody waits for it."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llamaproxy.telemetry import spool as spool_module
from llamaproxy.telemetry import store as store_module
from llamaproxy.telemetry import writer as module
from llamaproxy.telemetry.journal import SLOT
from llamaproxy.telemetry.series import COLUMNS, Row, Series
from llamaproxy.telemetry.spool import Spool
from llamaproxy.telemetry.store import Store
from llamaproxy.telemetry.writer import GROUP, Keep, Writer
from tests.gateway import until
from tests.telemetry.rows import ended

FOR_EVER = Keep(1e12, 2**50)
Start = Callable[..., Writer]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are tried again soon."""
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(store_module, "_BUSY", 0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "llamaproxy.db"


@pytest.fixture
async def start(path: Path) -> AsyncIterator[Start]:
    started: list[Writer] = []

    def starting(keep: Keep = FOR_EVER, on_replaced: Callable[[], None] = lambda: None) -> Writer:
        writer = Writer(path, lambda: keep, on_replaced)
        writer.start()
        started.append(writer)
        return writer

    yield starting
    for writer in started:
        await writer.close()


def numbers(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM requests ORDER BY number")]


def journaled(path: Path) -> int:
    (file,) = path.parent.glob("*-unwritten-*")
    slots = file.read_bytes()[SLOT:]
    return sum(slots[at : at + 1] == b"[" for at in range(0, len(slots), SLOT))


def junk(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"junk" * 5000)


async def written(writer: Writer) -> None:
    await until(lambda: not writer.spool and not writer.trouble, f"rows are written: {writer.trouble}")


def put(writer: Writer, first: int, last: int) -> None:
    for number in range(first, last):
        writer.put(ended(number))


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the groups that are written."""
    sizes: list[int] = []
    insert = Store.insert

    async def counted(self: Store, rows: list[object]) -> int:
        sizes.append(len(rows))
        return await insert(self, rows)  # type: ignore[arg-type]  # passed on as they come

    monkeypatch.setattr(Store, "insert", counted)
    return sizes


async def test_rows_are_written_in_groups(start: Start, path: Path, groups: list[int]) -> None:
    writer = start()
    await until(lambda: writer._store, "it is open")
    put(writer, 0, 20)
    await written(writer)
    assert groups == [20]
    put(writer, 20, 3000)
    await written(writer)
    assert numbers(path) == list(range(3000))
    assert len(groups) < 10


async def test_full_group_does_not_wait_for_more(
    start: Start, groups: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHER", 3600)
    writer = start()
    await until(lambda: writer._store, "it is open")
    put(writer, 0, GROUP - 1)
    await asyncio.sleep(0.05)
    assert groups == []
    writer.put(ended(GROUP))
    await written(writer)
    assert groups == [GROUP]


async def test_slow_disk_gets_larger_groups(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit costs the same for one row and for many: it may not take a core for itself."""
    now, cost, insert = 0.0, 0.02, Store.insert

    async def slowly(store: Store, rows: Sequence[Any]) -> int:
        nonlocal now
        now += cost
        return await insert(store, rows)

    writer = start()
    await until(lambda: writer._store, "it is open")
    monkeypatch.setattr(Store, "insert", slowly)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    put(writer, 0, 1)
    await written(writer)
    assert writer._gather == module.MOST_GATHER
    cost = 0.002
    put(writer, 1, 2)
    await written(writer)
    assert writer._gather == pytest.approx(0.02)


async def test_rows_need_no_journal_once_they_are_written(start: Start, path: Path) -> None:
    writer = start()
    for begin in (0, 10, 20):
        put(writer, begin, 10)
        assert journaled(path) == 10, "slots are used again"
        await written(writer)


async def test_what_the_journal_still_says_of_written_rows_changes_nothing(start: Start, path: Path) -> None:
    killed = start()
    put(killed, 0, 10)
    await written(killed)
    killed.journal.close(everything_written=False)
    assert journaled(path) == 10
    await written(start())
    await until(lambda: not list(path.parent.glob("*-unwritten-*"))[1:], "it is taken over")
    assert numbers(path) == list(range(10))


async def test_close_writes_what_is_left(start: Start, path: Path) -> None:
    writer = start()
    put(writer, 0, 2500)
    await writer.close()
    assert numbers(path) == list(range(2500))
    assert [file.name for file in path.parent.iterdir()] == ["llamaproxy.db"]


async def test_lock_of_another_process_is_waited_for(
    start: Start, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    writer = start()
    put(writer, 0, 1)
    await written(writer)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        put(writer, 1, 100)
        await until(lambda: writer.trouble, "it is told")
        assert "locked" in (writer.trouble or "")
        assert len(writer.spool) == 99
        other.execute("ROLLBACK")
    await written(writer)
    assert numbers(path) == list(range(100))
    assert caplog.text.count("have to wait") == 1, "the same trouble is told once"
    assert "written again" in caplog.text


async def test_close_leaves_rows_that_cannot_be_written_to_the_next(start: Start, path: Path) -> None:
    writer = start()
    put(writer, 0, 1)
    await written(writer)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        put(writer, 1, 100)
        await writer.close()
    assert numbers(path) == [0]
    await written(start())
    await until(lambda: numbers(path) == list(range(100)), "they are taken over")


async def test_full_disk(start: Start, path: Path) -> None:
    writer = start()
    put(writer, 0, 1)
    await written(writer)
    assert writer._store
    pages = await writer._store._number("PRAGMA page_count")
    await writer._store._connection.execute_fetchall(f"PRAGMA max_page_count = {pages}")
    put(writer, 1, 1000)
    await until(lambda: "full" in (writer.trouble or "") or numbers(path)[-1] == 999, "it is full")
    await written(writer)
    assert numbers(path) == list(range(1000)), "the next connection has no such limit"


async def test_oldest_are_lost_when_too_many_wait(start: Start, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = start()
    writer.spool = Spool(10)
    put(writer, 0, 25)
    assert (len(writer.spool), writer.spool.lost) == (10, 15)
    assert caplog.text.count("the oldest are lost") == 1
    await written(writer)
    assert numbers(path) == list(range(15, 25))
    assert spool_module.MOST_ROWS >= 10_000


async def test_corrupt_file_is_moved_away_and_a_new_one_begun(start: Start, path: Path) -> None:
    junk(path)
    replaced: list[bool] = []
    writer = start(on_replaced=lambda: replaced.append(True))
    put(writer, 0, 5)
    await written(writer)
    assert (numbers(path), replaced) == ([0, 1, 2, 3, 4], [True])
    assert [file.read_bytes()[:4] for file in path.parent.glob("*.corrupt-*")] == [b"junk"]


async def test_doubt_about_a_good_file_changes_nothing(start: Start, path: Path) -> None:
    writer = start()
    put(writer, 0, 5)
    await written(writer)
    writer.doubt()
    await until(lambda: not writer._suspect, "it is checked")
    assert numbers(path) == [0, 1, 2, 3, 4]
    assert not list(path.parent.glob("*.corrupt-*"))


async def test_old_rows_are_deleted_while_new_ones_are_written(
    start: Start, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_PRUNE", 0.2)
    monkeypatch.setattr(store_module, "PRUNED_AT_ONCE", 10)
    writer = start(Keep(3600, 2**50))
    put(writer, 0, 200)
    young = ended(1000)
    young.started_at = 1e11
    writer.put(young)
    await written(writer)
    await until(lambda: numbers(path) == [1000], "the old ones are gone")


async def test_deletion_that_fails_waits_for_its_next_time(
    start: Start, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> bool:
        tried.append(True)
        raise sqlite3.OperationalError("disk I/O error")

    tried: list[bool] = []
    monkeypatch.setattr(module, "_FIRST_PRUNE", 0)
    monkeypatch.setattr(Store, "prune", broken)
    writer = start()
    put(writer, 0, 10)
    await until(lambda: tried, "it is tried")
    put(writer, 10, 20)
    await written(writer)
    assert (numbers(path), tried) == (list(range(20)), [True])


async def test_thousand_rows_from_many_tasks_are_all_there(start: Start, path: Path) -> None:
    writer = start()

    async def one(number: int) -> None:
        await asyncio.sleep(number % 7 / 1000)
        writer.put(ended(number))

    await asyncio.gather(*(one(number) for number in range(1000)))
    await writer.close()
    assert numbers(path) == list(range(1000))


class Notes:
    """Something that is written beside the rows, and fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.waiting = 1
        self.horizons: list[float] = []

    def __len__(self) -> int:
        return self.waiting

    async def write(self, store: Store) -> None:
        if self.failures:
            self.failures -= 1
            raise sqlite3.OperationalError("database is locked")
        self.waiting = 0

    async def prune(self, store: Store, horizon: float) -> bool:
        self.horizons.append(horizon)
        return False


async def test_what_waits_beside_the_rows_is_written_with_them(start: Start, path: Path) -> None:
    writer, notes = start(), Notes()
    writer.attach(notes)
    writer.nudge()
    await until(lambda: not notes.waiting, "it is written, without any row")
    notes.waiting = 1
    put(writer, 0, 10)
    await written(writer)
    assert numbers(path) == list(range(10))


async def test_what_fails_beside_the_rows_keeps_none_of_them(start: Start, path: Path) -> None:
    writer, notes = start(), Notes(failures=2)
    writer.attach(notes)
    put(writer, 0, 10)
    await until(lambda: not notes.waiting, "it is written in the end")
    await written(writer)
    assert numbers(path) == list(range(10))


async def test_what_waits_beside_the_rows_is_written_before_the_end(start: Start) -> None:
    writer, notes = start(), Notes()
    writer.attach(notes)
    await writer.close()
    assert not notes.waiting


async def test_what_stands_beside_the_rows_is_pruned_with_them(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PRUNE", 0)
    writer, notes = start(), Notes()
    writer.attach(notes)
    await until(lambda: notes.horizons, "it is pruned")


def steps(path: Path) -> list[tuple[int, int]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT step, timestamp FROM metric_steps ORDER BY 1, 2").fetchall()


def sample(at: float) -> list[Row]:
    return Series().add(at, [1.0] * len(COLUMNS))


async def test_metrics_are_written_beside_rows_and_at_the_end(start: Start, path: Path) -> None:
    writer = start()
    put(writer, 0, 5)
    writer.put_metrics(sample(25))
    await until(lambda: path.exists() and writer._store and not writer._metrics, "they are written")
    assert steps(path) == [(10, 20), (60, 0), (600, 0)]
    writer.put_metrics(sample(45))
    await writer.close()
    assert steps(path) == [(10, 20), (10, 40), (60, 0), (600, 0)]
    assert numbers(path) == [0, 1, 2, 3, 4]


async def test_metrics_wait_for_a_broken_database_in_bounded_memory(
    start: Start, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_METRICS", 6)
    writer = start()
    await until(lambda: writer._store, "it is open")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for number in range(10):
            writer.put_metrics([(10, number * 10, 1, *([0.0] * len(COLUMNS)))])
        await until(lambda: writer.trouble, "it is told")
        other.execute("ROLLBACK")
    await until(lambda: not writer._metrics, "they are written")
    assert steps(path)[-6:] == [(10, number * 10) for number in range(4, 10)]


async def test_step_that_grows_while_it_is_written_is_written_again(
    start: Start, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, late = Store.put_metrics, [(10, 0, 2, *([3.0] * len(COLUMNS)))]

    async def overtaken(self: Store, rows: Sequence[Row]) -> None:
        await write(self, rows)
        if late:
            writer.put_metrics([late.pop()])

    monkeypatch.setattr(Store, "put_metrics", overtaken)
    writer = start()
    writer.put_metrics([(10, 0, 1, *([1.0] * len(COLUMNS)))])
    await until(lambda: not late and not writer._metrics, "both are written")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT samples, load FROM metric_steps").fetchall() == [(2, 3)]


async def test_series_goes_on_with_what_the_file_has(start: Start, path: Path) -> None:
    writer = start()
    writer.put_metrics(sample(25))
    await writer.close()
    later = start()
    await until(lambda: later._store, "it is open")
    assert later._series.columns("1h", 30)["timestamp"] == [20]
