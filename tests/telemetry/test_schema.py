"""llamaproxy.telemetry.schema: every version becomes this one, step by step, and no later one is touched."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest

from llamaproxy.telemetry.schema import COLUMNS, INSERT, METRICS, MIGRATIONS, PUT_METRICS, NewerDatabase, steps
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
            row[1] for row in database.execute("PRAGMA table_info(log_lines)")
        }


@pytest.mark.parametrize("known", range(1, len(NEXT) + 1))
def test_rows_of_every_version_are_kept(known: int) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        migrate(database, NEXT[:known])
        there = {row[1] for row in database.execute("PRAGMA table_info(requests)")}
        row = {name: cell for name, cell in zip(COLUMNS, cells(ended(1)), strict=True) if name in there}
        database.execute(
            f"INSERT INTO requests ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()]
        )
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
        assert [row[1] for row in database.execute("PRAGMA table_info(metric_steps)")] == list(METRICS)


def shown(database: sqlite3.Connection, view: str) -> dict[str, object]:
    """The one row of a view."""
    cursor = database.execute(f"SELECT * FROM {view}")
    (row,) = cursor.fetchall()
    return dict(zip([column[0] for column in cursor.description], row, strict=True))


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        migrate(opened)
        yield opened


def test_models_are_a_table_with_their_present_state(database: sqlite3.Connection) -> None:
    database.execute(
        "INSERT INTO model_settings VALUES ('m', 'path', '{}', '/m.gguf', NULL, 4096, 512, 8, 1000.5, 2000.5)"
    )
    assert shown(database, "models") == {
        **{"id": 1, "name": "m", "type": "path", "status": "stopped", "parameters": "{}", "model_path": "/m.gguf"},
        **{"model_url": None, "ctx_size": 4096, "batch_size": 512, "threads": 8},
        **{"created_at": 1000.5, "updated_at": 2000.5},
    }
    event = "INSERT INTO model_events (timestamp, model, spawn, breaker, state) VALUES (?, ?, 1, ?, ?)"
    database.execute(event, (1, "m", 0, "ready"))
    database.execute(event, (2, "m", 1, "breaker_open"))
    assert shown(database, "models")["status"] == "ready"
    database.execute(event, (3, "", 0, "stopped"))
    assert shown(database, "models")["status"] == "stopped"


def test_metrics_are_a_table_of_samples_in_percent(database: sqlite3.Connection) -> None:
    values = dict.fromkeys(METRICS, 1) | {"step": 10, "memory_used": 2, "memory_total": 8, "cpu_percent": 33}
    database.execute(PUT_METRICS, [values[name] for name in METRICS])
    database.execute(PUT_METRICS, [{**values, "step": 60}[name] for name in METRICS])
    row = shown(database, "metrics")
    assert (row["cpu_usage"], row["memory_usage"], row["disk_usage"]) == (33, 25, 100)
    assert row.keys() == {
        *("timestamp", "cpu_usage", "memory_usage", "disk_usage", "gpu_usage", "gpu_temperature", "gpu_memory_used"),
        *("gpu_memory_total", "gpu_power", "active_models", "uptime", "requests_per_minute"),
    }


def test_logs_are_a_table_with_levels_in_words(database: sqlite3.Connection) -> None:
    database.execute(
        "INSERT INTO log_lines (timestamp, level, source, message, context) VALUES (1500000, 30, 's', 'x', 'c')"
    )
    expected = {"id": 1500000, "level": "warn", "message": "x", "source": "s", "context": "c", "timestamp": 1.5}
    assert shown(database, "logs") == expected
