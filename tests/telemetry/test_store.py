"""llamaproxy.telemetry.store: the file of the database, from its making to its end."""

import asyncio
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from llamaproxy.telemetry import series as series_module
from llamaproxy.telemetry import store as module
from llamaproxy.telemetry.schema import COLUMNS, MIGRATIONS, NewerDatabase
from llamaproxy.telemetry.series import Series
from llamaproxy.telemetry.store import Store, connect, is_corrupt, move_aside
from tests.telemetry.rows import cells, ended

FAR = 1e15


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "llamaproxy.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(path)
    yield opened
    await opened.close()


def numbers(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM requests ORDER BY number")]


def content(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(data)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_file_and_folder_are_nobody_elses(path: Path, store: Store) -> None:
    await store.insert([cells(ended(1))])
    assert mode(path.parent) == 0o700
    companions = sorted(path.parent.iterdir())
    assert [companion.name for companion in companions] == [f"llamaproxy.db{suffix}" for suffix in ("", "-shm", "-wal")]
    assert {mode(companion) for companion in companions} == {0o600}


async def test_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    write(path, b"")
    await asyncio.to_thread(path.chmod, 0o644)
    await (await Store.open(path)).close()
    assert mode(path) == 0o600


async def test_every_commit_is_on_the_disk(store: Store) -> None:
    assert await store._number("PRAGMA synchronous") == 2
    assert await store._number("PRAGMA auto_vacuum") == 2
    assert await store._number("PRAGMA user_version") == len(MIGRATIONS)


async def test_rows_are_there_for_others_at_once_and_after_it_is_opened_again(path: Path, store: Store) -> None:
    assert await store.insert([cells(ended(number)) for number in range(3)]) == 0
    assert numbers(path) == [0, 1, 2]
    again = await Store.open(path)
    assert await again.newest() == ended(2).started_at
    await again.close()


@pytest.mark.parametrize("count", [0, 1, 4, 5, 7, 50, 113])
async def test_rows_are_written_as_they_are_however_many(count: int, path: Path, store: Store) -> None:
    rows = [cells(ended(number, completion_tokens=number)) for number in range(count)]
    assert {type(None)} <= {type(cell) for row in rows for cell in row} or not rows
    await store.insert(rows)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(f"SELECT {', '.join(COLUMNS)} FROM requests ORDER BY number").fetchall() == rows


async def test_rows_are_written_once(path: Path, store: Store) -> None:
    await store.insert([cells(ended(1)), cells(ended(1))])
    await store.insert([cells(ended(1)), cells(ended(2))])
    assert numbers(path) == [1, 2]


@pytest.mark.parametrize("fields", [{"model": "\udcff"}, {"prompt_tokens": 2**64}])
async def test_row_that_no_database_can_hold_does_not_keep_the_others(
    fields: dict[str, object], path: Path, store: Store
) -> None:
    assert await store.insert([cells(ended(1)), cells(ended(2, **fields)), cells(ended(3))]) == 1
    assert numbers(path) == [1, 3]


async def test_group_that_fails_leaves_nothing(path: Path, store: Store) -> None:
    await store.insert([cells(ended(1))])
    pages = await store._number("PRAGMA page_count")
    await store._connection.execute_fetchall(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        await store.insert([cells(ended(number)) for number in range(2, 2000)])
    assert numbers(path) == [1]
    await store._connection.execute_fetchall(f"PRAGMA max_page_count = {pages * 1000}")
    await store.insert([cells(ended(2))])
    assert numbers(path) == [1, 2]


async def test_database_of_a_later_release_is_not_touched(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = content(path)
    with pytest.raises(NewerDatabase):
        await Store.open(path)
    assert content(path) == before


class TestPrune:
    async def test_old_rows_go_some_at_a_time(self, path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "PRUNED_AT_ONCE", 10)
        await store.insert([cells(ended(number)) for number in range(30)])
        horizon = ended(25).started_at
        assert [await store.prune(horizon, 10**9) for _ in range(3)] == [True, True, False]
        assert numbers(path) == [25, 26, 27, 28, 29]

    async def test_oldest_go_where_the_file_is_too_large_and_its_space_is_given_back(
        self, path: Path, store: Store
    ) -> None:
        await store.insert([cells(ended(number)) for number in range(5000)])
        await store._connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        before = len(content(path))
        most = before // 2
        while await store.prune(0, most):
            pass
        assert await store._bytes() <= most
        await store._connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        assert len(content(path)) < before * 0.7
        left = numbers(path)
        assert left == list(range(left[0], 5000)), "the newest stay"
        assert 1000 < len(left) < 3000

    async def test_empty_database_that_is_too_large_is_no_endless_task(self, store: Store) -> None:
        assert await store.prune(FAR, 1) is False


class TestCorrupt:
    async def test_what_is_no_database_is_told(self, path: Path) -> None:
        write(path, b"junk" * 5000)
        with pytest.raises(sqlite3.DatabaseError) as caught:
            await Store.open(path)
        assert is_corrupt(caught.value)
        assert content(path) == b"junk" * 5000

    async def test_page_that_was_overwritten_is_found_by_a_check(self, path: Path, store: Store) -> None:
        await store.insert([cells(ended(number)) for number in range(500)])
        await store.check()
        await store._connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        with path.open("r+b") as stream:
            stream.seek(5 * 4096)
            stream.write(b"\xa5" * 4096 * 5)
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA user_version = 1")  # The pages in the store's cache are old by that.
            other.commit()
        with pytest.raises(sqlite3.DatabaseError) as caught:
            await store.check()
        assert is_corrupt(caught.value)

    @pytest.mark.parametrize(
        "error", [OSError("x"), sqlite3.OperationalError("database is locked"), NewerDatabase("x")]
    )
    def test_other_failures_are_no_corruption(self, error: Exception) -> None:
        assert not is_corrupt(error)

    def test_it_is_moved_with_its_companions_and_the_last_three_are_kept(self, path: Path) -> None:
        path.parent.mkdir()
        for day in range(5):
            for suffix in ("", "-wal"):
                path.with_name(path.name + suffix).write_text(str(day))
            aside = move_aside(path, now=day * 86400.0)
        assert aside.name == "llamaproxy.db.corrupt-19700105T000000Z"
        assert [file.read_text() for file in sorted(path.parent.iterdir())] == ["2", "2", "3", "3", "4", "4"]

    def test_nothing_to_move_is_no_fault(self, tmp_path: Path) -> None:
        move_aside(tmp_path / "none.db")


def steps(path: Path) -> list[tuple[int, int, int, float]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT step, timestamp, samples, load FROM metric_steps ORDER BY 1, 2").fetchall()


async def test_step_is_written_in_place_of_what_it_was(path: Path, store: Store) -> None:
    series = Series()
    for at, load in ((0, 1), (5, 3), (10, 5)):
        await store.put_metrics(series.add(at, [load] * len(series_module.COLUMNS)))
    assert steps(path) == [(10, 0, 2, 2), (10, 10, 1, 5), (60, 0, 3, 3), (600, 0, 3, 3)]
    assert [row[:3] for row in await store.metrics()] == [(10, 0, 2), (10, 10, 1), (60, 0, 3), (600, 0, 3)]


async def test_newest_steps_stay_and_requests_with_them(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIERS", {"1h": (10, 3), "24h": (60, 2)})
    await store.insert([cells(ended(1))])
    row = [1, *([0.0] * len(series_module.COLUMNS))]
    for at in range(10):
        await store.put_metrics([(10, at * 10, *row), (60, at * 60, *row)])
    assert [step[:2] for step in steps(path)] == [(10, 70), (10, 80), (10, 90), (60, 480), (60, 540)]
    assert numbers(path) == [1]


async def test_metrics_that_fail_leave_nothing(path: Path, store: Store) -> None:
    row = (1, *([0.0] * len(series_module.COLUMNS)))
    with pytest.raises(sqlite3.Error):
        await store.put_metrics([(10, 0, *row), (10, None, *row)])
    assert steps(path) == []
    await store.insert([cells(ended(1))])
    assert numbers(path) == [1]


async def test_nothing_goes_on_behind_a_connection_that_failed(tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(sqlite3.OperationalError):
        await connect(f"file:{tmp_path}/none.db?mode=ro", uri=True)
    assert not [one for one in threading.enumerate() if "_connection_worker_thread" in one.name]
    assert threading.active_count() <= before + 1
