"""llamaproxy.telemetry.reader: reads beside the writer, and never in its way."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from llamaproxy.telemetry import reader as module
from llamaproxy.telemetry.reader import Reader
from llamaproxy.telemetry.store import Store, move_aside
from tests.telemetry.rows import cells, ended

COUNT = ("SELECT count(*) FROM requests", ())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a name with ? and %20.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(path)
    await opened.insert([cells(ended(1))])
    yield opened
    await opened.close()


@pytest.fixture
async def reader(path: Path) -> AsyncIterator[Reader]:
    made = Reader(path)
    yield made
    await made.close()


async def test_what_was_committed_is_seen_at_once(store: Store, reader: Reader) -> None:
    assert await reader.fetch(COUNT) == [(1,)]
    await store.insert([cells(ended(2))])
    assert await reader.fetch(COUNT) == [(2,)]


async def test_it_can_write_nothing(store: Store, reader: Reader) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await reader.fetch(("DELETE FROM requests", ()))
    assert await reader.fetch(COUNT) == [(1,)]


async def test_it_reads_while_somebody_writes_and_the_other_way_round(path: Path, store: Store, reader: Reader) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM requests")
        assert await reader.fetch(COUNT) == [(1,)]
        other.execute("ROLLBACK")
        other.execute("BEGIN")
        other.execute(*COUNT)
        await store.insert([cells(ended(2))])


async def test_file_that_is_not_there_is_not_made(path: Path, reader: Reader) -> None:
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        await reader.fetch(COUNT)
    assert not list(path.parent.iterdir())
    await (await Store.open(path)).close()
    assert await reader.fetch(COUNT) == [(0,)], "it is looked for again"


async def test_file_that_was_moved_away_is_read_no_more(path: Path, store: Store, reader: Reader) -> None:
    assert await reader.fetch(COUNT) == [(1,)]
    move_aside(path)
    await (await Store.open(path)).close()
    reader.renew()
    assert await reader.fetch(COUNT) == [(0,)]


async def test_question_without_end_is_broken_off(
    store: Store, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(sqlite3.OperationalError, match="no answer within"):
        await asyncio.wait_for(reader.fetch((endless, ())), 10)
    monkeypatch.setattr(module, "_PATIENCE", 10)
    assert await reader.fetch(COUNT) == [(1,)]


async def test_many_ask_at_once(store: Store, reader: Reader) -> None:
    assert await asyncio.gather(*(reader.fetch(COUNT) for _ in range(50))) == [[(1,)]] * 50
