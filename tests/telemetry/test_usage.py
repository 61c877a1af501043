"""llamaproxy.telemetry.usage: sums, the same in SQL and in Python."""

import sqlite3
from contextlib import closing

import pytest

from llamaproxy.errors import InvalidRequest
from llamaproxy.telemetry import usage
from llamaproxy.telemetry.ledger import RequestState
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
        database.executescript(steps(0)[0])
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
