"""llamaproxy.telemetry.schema: every version becomes this one, step by step, and no later one is touched."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing

import pytest

from llamaproxy.telemetry.schema import COLUMNS, INSERT, METRICS, MIGRATIONS, NewerDatabase, steps
from tests.telemetry.rows import cells, ended

NEXT = (*MIGRATIONS, "ALTER TABLE requests ADD COLUMN colour TEXT", "UPDATE requests SET colour = 'red'")


def migrate(database: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    ((version,),) = database.execute("PRAGMA user_version")
    for script in steps(version, migrations):
        database.executescript(script)


def version(database: sqlite3.Connection) -> int:
    ((found,),) = database.execute("PRAGMA user_version")
    return int(found)


def test_empty_database_gets_all_of_it_once() -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        migrate(database)
        migrate(database)
        assert version(database) == len(MIGRATIONS)
        assert {row[1] for row in database.execute("PRAGMA table_info(requests)")} == set(COLUMNS)


def test_database_without_a_log_gets_one() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        migrate(database, MIGRATIONS[:1])
        migrate(database)
        assert {"timestamp", "level", "source", "message", "context"} <= {
            row[1] for row in database.execute("PRAGMA table_info(logs)")
        }


@pytest.mark.parametrize("known", range(1, len(NEXT) + 1))
def test_rows_of_every_version_are_kept(known: int) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        migrate(database, NEXT[:known])
        database.execute(INSERT, cells(ended(1)))
        migrate(database, NEXT)
        assert version(database) == len(NEXT)
        assert database.execute("SELECT id FROM requests").fetchall() == [("r-1",)]


def test_migration_that_fails_leaves_the_version_before_it() -> None:
    broken = (*MIGRATIONS, "ALTER TABLE requests ADD COLUMN colour TEXT; INSERT INTO nowhere VALUES (1)")
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            migrate(database, broken)
        database.rollback()
        assert version(database) == len(MIGRATIONS)
        assert "colour" not in {row[1] for row in database.execute("PRAGMA table_info(requests)")}


def test_later_version_is_refused_and_the_remedy_told() -> None:
    with pytest.raises(NewerDatabase, match=r"version 99.*install the later release again"):
        steps(99)


def test_row_that_is_there_stays_as_it_is() -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        migrate(database)
        database.execute(INSERT, cells(ended(1, bytes_out=7)))
        database.execute(INSERT, cells(ended(1, bytes_out=0)))
        database.execute(INSERT, cells(ended(1), run=2))
        assert database.execute("SELECT run, bytes_out FROM requests ORDER BY run").fetchall() == [(1, 7), (2, 0)]


def test_metrics_have_a_column_for_everything_in_a_sample() -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        migrate(database)
        assert [row[1] for row in database.execute("PRAGMA table_info(metrics)")] == list(METRICS)
