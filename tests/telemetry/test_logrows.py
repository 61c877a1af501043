"""llamaproxy.telemetry.logrows: lines on their way into the database; some may be lost, none is waited for."""

import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from llamaproxy.telemetry.logline import LogEntry
from llamaproxy.telemetry.logrows import LogRows
from llamaproxy.telemetry.redaction import MASK, Redaction
from llamaproxy.telemetry.store import PRUNED_AT_ONCE, Store

redact = Redaction().redact


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "llamaproxy.db")
    yield opened
    await opened.close()


def entry(id: int, message: str = "x", **fields: str) -> LogEntry:
    return LogEntry(id, logging.INFO, "server.app", message, **fields)


def stored(path: Path, what: str = "timestamp") -> list[object]:
    with closing(sqlite3.connect(path / "llamaproxy.db")) as connection:
        return [value for (value,) in connection.execute(f"SELECT {what} FROM log_lines ORDER BY timestamp")]


async def test_lines_are_written_once(store: Store, tmp_path: Path) -> None:
    rows = LogRows(redact)
    rows.put(entry(1))
    rows.put(entry(2))
    await rows.write(store)
    assert (stored(tmp_path), len(rows)) == ([1, 2], 0)


async def test_no_secret_and_no_escape_is_written(store: Store, tmp_path: Path) -> None:
    rows = LogRows(redact)
    rows.put(entry(1, "\x1b[31m http://a:hunter22@b/", context="http://a:hunter22@b/"))
    await rows.write(store)
    assert stored(tmp_path, "message || context") == [rf"\x1b[31m http://{MASK}@b/http://{MASK}@b/"]


async def test_oldest_are_left_out_and_counted_where_too_many_wait(store: Store, tmp_path: Path) -> None:
    rows = LogRows(redact, most_waiting=3)
    for id in range(10):
        rows.put(entry(id))
    await rows.write(store)
    assert (stored(tmp_path), rows.dropped) == ([7, 8, 9], 7)


async def test_what_cannot_be_written_waits_within_the_bound(store: Store, tmp_path: Path) -> None:
    rows = LogRows(redact, most_waiting=3)
    for id in range(3):
        rows.put(entry(id))
    broken = await Store.open(tmp_path / "broken.db")
    await broken.delete("DROP TABLE log_lines", ())
    for _ in range(3):
        with pytest.raises(sqlite3.OperationalError):
            await rows.write(broken)
    await broken.close()
    rows.put(entry(3))
    await rows.write(store)
    assert (stored(tmp_path), rows.dropped) == ([1, 2, 3], 1)


async def test_writer_is_woken_for_the_first_of_many() -> None:
    rows, woken = LogRows(redact), []
    rows.wake = lambda: woken.append(1)
    rows.put(entry(1))
    rows.put(entry(2))
    assert len(woken) == 1


async def test_cleared_ones_go_whether_they_wait_or_are_written(store: Store, tmp_path: Path) -> None:
    rows = LogRows(redact)
    rows.put(entry(1))
    await rows.write(store)
    rows.put(entry(2))
    rows.clear(2)
    rows.put(entry(3))
    assert len(rows) == 2
    await rows.write(store)
    assert (stored(tmp_path), len(rows)) == ([3], 0)


async def test_old_ones_and_the_oldest_of_many_are_pruned(store: Store, tmp_path: Path) -> None:
    rows = LogRows(redact, most_kept=3)
    for id in range(1, 7):
        rows.put(entry(id * 1_000_000))
    await rows.write(store)
    assert not await rows.prune(store, horizon=2.5)
    assert stored(tmp_path) == [4_000_000, 5_000_000, 6_000_000]
    assert not await rows.prune(store, horizon=5.5)
    assert stored(tmp_path) == [6_000_000]


async def test_pruning_goes_by_steps(store: Store) -> None:
    rows = LogRows(redact, most_waiting=PRUNED_AT_ONCE + 1)
    for id in range(PRUNED_AT_ONCE + 1):
        rows.put(entry(id))
    await rows.write(store)
    assert await rows.prune(store, horizon=1e9)
    assert not await rows.prune(store, horizon=1e9)
