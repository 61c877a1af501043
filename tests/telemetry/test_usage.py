"""llamaproxy.telemetry.usage: sums, the same in SQL and in Python."""

import math
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from llamaproxy.errors import InvalidRequest
from llamaproxy.telemetry import usage
from llamaproxy.telemetry.ledger import RequestRow, RequestState
from llamaproxy.telemetry.schema import INSERT, steps
from tests.telemetry.rows import cells, ended

DAY = 86400.0
ROWS = [
    ended(1, started_at=DAY * 3, model="m", key="alice", prompt_tokens=10, completion_tokens=5, bytes_in=100),
    ended(2, started_at=DAY * 3 + 1, model="m", prompt_tokens=1),
    ended(3, started_at=DAY * 4 - 1, model="n", key="alice", state=RequestState.CLIENT_ABORT),
    ended(4, started_at=DAY * 4, state=RequestState.REJECTED, bytes_out=7),
]


@pytest.mark.parametrize("since", [0.0, DAY * 3 + 1, DAY * 9])
@pytest.mark.parametrize("groups", ["model", "key", "day", "model,key", "day,model,key", "key,day"])
def test_database_and_memory_agree(groups: str, since: float) -> None:
    wanted = usage.parse_groups(groups)
    with closing(sqlite3.connect(":memory:")) as database:
        for script in steps(0):
            database.executescript(script)
        database.executemany(INSERT, map(cells, ROWS))
        assert database.execute(*usage.sql(wanted, since)).fetchall() == usage.tally(ROWS, wanted, since)


def test_what_is_summed() -> None:
    found = [dict(zip(usage.columns(("model",)), row, strict=True)) for row in usage.tally(ROWS, ("model",), 0)]
    assert [(row["model"], row["requests"]) for row in found] == [(None, 1), ("m", 2), ("n", 1)]
    assert (found[1]["ok"], found[1]["prompt_tokens"], found[1]["completion_tokens"]) == (2, 11, 5)
    assert (found[2]["client_abort"], found[0]["rejected"], found[0]["bytes_out"]) == (1, 1, 7)


def test_days_are_those_of_utc() -> None:
    assert [row[:2] for row in usage.tally(ROWS, ("day",), 0)] == [("1970-01-04", 3), ("1970-01-05", 1)]


@pytest.mark.parametrize("text", ["", "model,", "client", "model,model", "MODEL", "model; drop table requests"])
def test_groups_that_are_none(text: str) -> None:
    with pytest.raises(InvalidRequest, match="model, key, day"):
        usage.parse_groups(text)


@pytest.mark.parametrize("text", ["", "now", "-1", "nan", "inf", "1e13", "1" * 40])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(InvalidRequest, match="seconds since the epoch"):
        usage.parse_since(text)


def timed(*durations: float | None, **fields: Any) -> list[RequestRow]:
    return [ended(number, model="m", duration_ms=value, **fields) for number, value in enumerate(durations, 1)]


def ranked(rows: Iterable[RequestRow], groups: tuple[str, ...] = ("model",), since: float = 0) -> list[tuple[Any, ...]]:
    """By the database."""
    with closing(sqlite3.connect(":memory:")) as database:
        for script in steps(0):
            database.executescript(script)
        database.executemany(INSERT, map(cells, rows))
        return database.execute(*usage.percentile_sql(groups, since)).fetchall()


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 100])
def test_percentiles_are_by_nearest_rank(count: int) -> None:
    rows = timed(*map(float, range(count, 0, -1)))
    (row,) = ranked(rows)
    found = dict(zip(usage.percentile_columns(("model",)), row, strict=True))
    assert found["duration_ms_p50"] == math.ceil(count * 0.5)
    assert found["duration_ms_p95"] == math.ceil(count * 0.95)
    assert found["ttfb_ms_p50"] is None
    assert usage.percentiles(rows, ("model",), 0) == [row]


def test_percentiles_of_what_is_not_known_leave_it_out() -> None:
    (row,) = ranked(timed(None, 7.0, None))
    assert dict(zip(usage.percentile_columns(("model",)), row, strict=True))["duration_ms_p50"] == 7


@pytest.mark.parametrize("groups", ["model", "day,key", "day,model,key"])
def test_percentiles_of_memory_and_database_agree(groups: str) -> None:
    wanted = usage.parse_groups(groups)
    rows = [replace(row, queue_ms=row.number * 1.5, prompt_tps=3.0) for row in ROWS]
    found = ranked(rows, wanted, DAY * 3 + 1)
    assert sorted(found, key=str) == sorted(usage.percentiles(rows, wanted, DAY * 3 + 1), key=str)


def test_percentiles_are_of_the_newest_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "NEWEST", 2)
    (row,) = ranked(timed(1.0, 2.0, 3.0, 4.0))
    assert dict(zip(usage.percentile_columns(("model",)), row, strict=True))["duration_ms_p50"] == 3


def test_group_without_newest_rows_has_no_percentiles() -> None:
    groups = ("model",)
    found = usage.joined(groups, usage.tally(ROWS, groups, 0), [("m", *[1.23456] * 12)])
    assert [(row["model"], row["requests"], row["queue_ms_p50"]) for row in found] == [
        (None, 1, None),
        ("m", 2, 1.235),
        ("n", 1, None),
    ]
