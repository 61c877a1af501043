"""llamaproxy.telemetry.query: one order of rows, in SQL and in Python, and cursors into it."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from llamaproxy.errors import InvalidRequest
from llamaproxy.telemetry.ledger import RequestRow, RequestState
from llamaproxy.telemetry.query import SORTS, Place, Query, find_sql, parse, to_row
from llamaproxy.telemetry.schema import INSERT, steps
from tests.telemetry.rows import cells, ended

RUN = 7
FINAL = [state for state in RequestState if state is not RequestState.IN_FLIGHT]


def random_rows(count: int) -> list[RequestRow]:
    """With equal values, and values that are not known."""
    chance = random.Random(1)
    names = (None, "m", "n")
    return [
        ended(
            number,
            started_at=1_000_000.0 + chance.randrange(count // 2),
            model=chance.choice(names),
            key=chance.choice(names),
            state=chance.choice(FINAL),
            error=chance.choice((None, "queue_full")),
            duration_ms=chance.choice((None, 0.0, 1.5, 2.5)),
            bytes_in=chance.randrange(5),
        )
        for number in range(count)
    ]


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for script in steps(0):
            connection.executescript(script)
        yield connection


def in_database(database: sqlite3.Connection, query: Query) -> list[tuple[int, RequestRow]]:
    return [to_row(found) for found in database.execute(*query.sql())]


def in_memory(rows: list[RequestRow], query: Query) -> list[tuple[int, RequestRow]]:
    matching = [row for row in rows if query.matches(row) and query.after(query.place(RUN, row))]
    ordered = sorted(matching, key=lambda row: query.rank(query.place(RUN, row)))
    return [(RUN, row) for row in ordered[: query.limit]]


@pytest.mark.parametrize("sort", [sign + column for column in sorted(SORTS) for sign in ("", "-")])
@pytest.mark.parametrize("asked", [{}, {"model": "m"}, {"key": "n", "state": "ok"}, {"state": "truncated"}], ids=str)
def test_database_and_memory_agree_on_every_page(
    sort: str, asked: dict[str, str], database: sqlite3.Connection
) -> None:
    rows = random_rows(200)
    database.executemany(INSERT, [cells(row, RUN) for row in rows])
    query, seen = parse({**asked, "sort": sort, "limit": "30"}), []
    while page := in_database(database, query):
        assert page == in_memory(rows, query)
        seen += [row.number for _, row in page]
        last = str(query.place(*page[-1]))
        query = parse({**asked, "sort": sort, "limit": "30", "before": last})
    assert sorted(seen) == [row.number for row in rows if query.matches(row)], "each row is seen once"


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        ({}, "requests_by_time"),
        ({"model": "m"}, "requests_by_model"),
        ({"key": "m"}, "requests_by_key"),
        ({"state": "rejected"}, "requests_by_state"),
        ({"sort": "started_at"}, "requests_by_time"),
        ({"before": "1_1000.5_1000.5_1_1"}, "requests_by_time"),
        ({"sort": "-duration_ms"}, "requests_by_time"),
        ({"sort": "bytes_in", "model": "m"}, "requests_by_model"),
    ],
    ids=str,
)
def test_no_page_looks_at_all_rows(asked: dict[str, str], index: str, database: sqlite3.Connection) -> None:
    text, values = parse(asked).sql()
    plan = " ".join(str(step[-1]) for step in database.execute(f"EXPLAIN QUERY PLAN {text}", values))
    assert index in plan
    if "sort" not in asked:
        assert "TEMP B-TREE" not in plan.replace("TEMP B-TREE FOR RIGHT PART", "")


def test_in_flight_comes_first_in_every_order() -> None:
    rows = [ended(1), ended(2, state=RequestState.IN_FLIGHT), ended(3)]
    for sort in ("started_at", "-started_at", "bytes_in"):
        assert in_memory(rows, parse({"sort": sort}))[0][1].number == 2


def test_pages_go_on_from_rows_in_flight_to_the_database(database: sqlite3.Connection) -> None:
    row = ended(5, state=RequestState.IN_FLIGHT)
    database.execute(INSERT, cells(ended(9), RUN))
    query = parse({"before": str(Query().place(RUN, row))})
    assert [found.number for _, found in in_database(database, query)] == [9]
    assert not query.after(query.place(RUN, row))


def test_find_takes_the_newest_and_an_index(database: sqlite3.Connection) -> None:
    for number, started_at in ((1, 5.0), (2, 9.0), (3, 7.0)):
        row = ended(number, started_at=started_at)
        row.id = "same"
        database.execute(INSERT, cells(row))
    text, values = find_sql("same")
    assert to_row(database.execute(text, values).fetchone())[1].number == 2
    assert "requests_by_id" in str(database.execute(f"EXPLAIN QUERY PLAN {text}", values).fetchall())


def test_row_comes_back_as_it_was(database: sqlite3.Connection) -> None:
    row = ended(3, model="m", stream=True, duration_ms=1.25, prompt_tokens=7, state=RequestState.TRUNCATED)
    database.execute(INSERT, cells(row, RUN))
    assert in_database(database, Query()) == [(RUN, row)]


@pytest.mark.parametrize("place", [Place(True, 1.5, 1e9 + 0.1, 2**63 - 1, 3), Place(False, -1, 0.1 + 0.2, 0, 0)])
def test_cursor_says_exactly_where(place: Place) -> None:
    assert parse({"before": str(place)}).before == place


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": "0"},
        {"sort": "client"},
        {"state": "gone"},
        {"before": "1_--_1_1_1"},
        {"before": "2_1_1_1_1"},
        {"before": "1_1_1_-1_1"},
        {"model": "m" * 257},
        {"key": "\x1b[31m"},
    ],
    ids=str,
)
def test_what_cannot_be_asked_names_its_parameter(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(asked)
    assert [caught.value.param] == list(asked)


def test_what_is_asked_is_never_sql() -> None:
    name = "m' OR 1=1 --"
    text, values = parse({"model": name, "key": name}).sql()
    assert name not in text
    assert values[:2] == (name, name)
