"""llamaproxy.telemetry.logquery: what can be asked of the log, and that memory and database answer alike."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from llamaproxy.errors import InvalidRequest
from llamaproxy.telemetry.logline import LogEntry
from llamaproxy.telemetry.logquery import INSERT, LogQuery, parse, to_entry
from llamaproxy.telemetry.schema import steps

ENTRIES = [
    LogEntry(number, level, "engine", f"line {number}", model, request)
    for number, (level, model, request) in enumerate(
        [(10, None, None), (20, "a", "r-1"), (30, "b", None), (40, "a", "r-2"), (20, None, "r-1"), (30, "a", None)],
        start=1_000_000,
    )
]


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as opened:
        for script in steps(0):
            opened.executescript(script)
        opened.executemany(INSERT, ENTRIES)
        yield opened


def numbers(entries: list[LogEntry]) -> list[int]:
    return [entry.id - 1_000_000 for entry in entries]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [5, 4, 3, 2, 1, 0]),
        ({"limit": "2"}, [5, 4]),
        ({"limit": "2", "before": "1000004"}, [3, 2]),
        ({"level": "warning"}, [5, 3, 2]),
        ({"level": "warn"}, [5, 3, 2]),
        ({"model": "a"}, [5, 3, 1]),
        ({"model": "a", "level": "error"}, [3]),
        ({"request_id": "r-1"}, [4, 1]),
        ({"since": "1.000004"}, [5, 4]),
        ({"after": "1000002"}, [3, 4, 5]),
        ({"after": "1000002", "limit": "1"}, [3]),
        ({"after": "1000005"}, []),
        ({"model": "unheard-of"}, []),
        ({"q": "LINE 1000003"}, [3]),
        ({"q": "engine a line"}, [5, 3, 1]),
        ({"q": "a LINE", "level": "error"}, [3]),
        ({"q": "line", "limit": "2"}, [5, 4]),
    ],
)
def test_memory_and_database_answer_alike(
    database: sqlite3.Connection, asked: dict[str, str], found: list[int]
) -> None:
    query = parse(asked)
    assert numbers(query.page(ENTRIES)) == found
    stored = [to_entry(cells) for cells in database.execute(*query.sql())]
    assert numbers(query.page(stored)) == numbers(stored) == found


@pytest.mark.parametrize("text", ["50%_", "50%_ \\O/", "É", "valueerror: 'x'", '"', "server.app"])
def test_text_is_found_as_it_is_written(database: sqlite3.Connection, text: str) -> None:
    entry = LogEntry(2_000_000, 40, "server.app", '50%_ \\o/ É "', context="ValueError: 'x'")
    database.execute(INSERT, entry)
    query = parse({"q": text})
    assert query.page([*ENTRIES, entry]) == [entry]
    assert [to_entry(cells) for cells in database.execute(*query.sql())] == [entry]


@pytest.mark.parametrize("text", ["50__", "5%o", "é", "50%_ \\\\o/"])
def test_characters_of_a_text_stand_for_themselves(database: sqlite3.Connection, text: str) -> None:
    entry = LogEntry(2_000_000, 40, "server.app", "50%_ \\o/ É")
    database.execute(INSERT, entry)
    query = parse({"q": text})
    assert query.page([entry]) == list(database.execute(*query.sql())) == []


@pytest.mark.parametrize(
    ("asked", "edge", "found", "following"),
    [
        ({}, 1_000_002, [5, 4, 3, 2], 1_000_002),
        ({"limit": "2"}, 1_000_002, [5, 4], 1_000_004),
        ({"before": "1000002"}, None, [1, 0], None),
        ({"after": "0"}, 1_000_003, [0, 1, 2, 3], 1_000_003),
        ({"after": "1000003"}, None, [4, 5], 1_000_005),
        ({"after": "1000005"}, None, [], 1_000_005),
    ],
)
def test_search_looks_at_so_many_rows_and_goes_on_from_there(
    database: sqlite3.Connection, asked: dict[str, str], edge: int | None, found: list[int], following: int | None
) -> None:
    query = parse({"q": "line", **asked})
    row = database.execute(*query.edge_sql(most=4)).fetchone()
    assert (row and row[0]) == edge
    page = (query.within(edge) if edge else query).page(ENTRIES)
    assert (numbers(page), query.following(page, edge)) == (found, following)


def test_secret_is_not_found_by_guessing() -> None:
    entry = LogEntry(1, 20, "engine", "key lp-secret")
    query = parse({"q": "lp-s"})
    assert query.matches(entry)
    assert not query.is_seen_in(entry.shown(lambda text: text.replace("lp-secret", "***")))
    assert parse({"q": "key"}).is_seen_in(entry.shown(str))


def test_entry_that_is_in_both_is_shown_once() -> None:
    assert numbers(LogQuery().page([*ENTRIES, *ENTRIES])) == [5, 4, 3, 2, 1, 0]


def test_pages_follow_one_another_to_the_end() -> None:
    seen: list[int] = []
    query = LogQuery(limit=4)
    while page := query.page(ENTRIES):
        seen += numbers(page)
        query = LogQuery(limit=4, before=page[-1].id)
    assert seen == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("limit", value) for value in ("0", "1001", "-1", "x", "", "1e3", "٣", "9" * 5000)),
        *(("before", value) for value in ("", "-1", "x", str(2**63), "9" * 20)),
        ("after", "1.5"),
        *(("level", value) for value in ("", "fatal", "INFO", "10")),
        *(("since", value) for value in ("", "nan", "-1", "yesterday")),
        *(("model", value) for value in ("", "a b", "a" * 129, "\x1b")),
        ("request_id", "'" * 200),
        *(("q", value) for value in ("x" * 201, "a\nb", "\0", "\ud800")),
    ],
)
def test_what_is_no_question_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse({name: value})
    assert caught.value.param == name


def test_values_are_never_sql(database: sqlite3.Connection) -> None:
    query: Any = parse({"model": "a'OR'1'='1"})
    assert list(database.execute(*query.sql())) == []
