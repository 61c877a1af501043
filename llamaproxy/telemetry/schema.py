"""The tables of the database, and the way from every earlier version to this one.

Owns the SQL of the tables and their numbers. A migration that was released is never changed: a new one follows it.
Knows no file and no connection: `store` does.
"""

from collections.abc import Sequence

from llamaproxy.telemetry import series
from llamaproxy.telemetry.ledger import FIELDS

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE requests (
        run INTEGER NOT NULL,      -- a random number of the gateway's process
        number INTEGER NOT NULL,   -- counts the requests of that process
        id TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        dialect TEXT NOT NULL,
        client TEXT NOT NULL,
        started_at REAL NOT NULL,
        model TEXT,
        key TEXT,
        backend TEXT,
        stream INTEGER NOT NULL,
        status INTEGER,
        state TEXT NOT NULL,
        prompt_tokens INTEGER,
        cached_tokens INTEGER,
        completion_tokens INTEGER,
        queue_ms REAL,
        load_ms REAL,
        ttfb_ms REAL,
        duration_ms REAL,
        prompt_tps REAL,
        generation_tps REAL,
        bytes_in INTEGER NOT NULL,
        bytes_out INTEGER NOT NULL,
        replays INTEGER NOT NULL,
        PRIMARY KEY (run, number)
    ) WITHOUT ROWID;
    CREATE INDEX requests_by_time ON requests (started_at);
    CREATE INDEX requests_by_id ON requests (id);
    CREATE INDEX requests_by_model ON requests (model, started_at);
    CREATE INDEX requests_by_key ON requests (key, started_at) WHERE key IS NOT NULL;
    CREATE INDEX requests_by_state ON requests (state, started_at) WHERE state <> 'ok';
    """,
    """
    CREATE TABLE metrics (
        step INTEGER NOT NULL,       -- seconds that the averages are of
        timestamp INTEGER NOT NULL,  -- when the step began, in seconds since the epoch
        samples INTEGER NOT NULL,
        cpu_percent REAL,
        load REAL,
        memory_used REAL,
        memory_total REAL,
        swap_used REAL,
        disk_used REAL,
        disk_total REAL,
        received_rate REAL,
        sent_rate REAL,
        gpu_percent REAL,
        gpu_memory_used REAL,
        gpu_memory_total REAL,
        gpu_temperature REAL,
        gpu_power REAL,
        active_models REAL,
        in_flight REAL,
        queued REAL,
        requests_per_minute REAL,
        tokens_per_minute REAL,
        uptime REAL,
        PRIMARY KEY (step, timestamp)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE logs (
        timestamp INTEGER PRIMARY KEY,  -- microseconds since the epoch; no two entries have the same
        level INTEGER NOT NULL,         -- as Python's logging counts them
        source TEXT NOT NULL,           -- a part of the gateway, or "engine"
        message TEXT NOT NULL,
        model TEXT,
        request_id TEXT,
        context TEXT                    -- a traceback
    );
    """,
)
"""The n-th leads from version n - 1 to n. Statements only: `steps` makes a transaction of each."""

COLUMNS = ("run", "number", *FIELDS)
TOGETHER = 50
"""Rows of one statement, where there are so many: the interpreter is not asked between them."""
_ROW = f"({', '.join('?' * len(COLUMNS))})"
_INTO = f"INSERT OR IGNORE INTO requests ({', '.join(COLUMNS)}) VALUES "
INSERT_TOGETHER = _INTO + ", ".join([_ROW] * TOGETHER)
INSERT = _INTO + _ROW
"""A row that is there already stays as it is: what is written again after a failure, or after a crash, is no other."""


METRICS = ("step", "timestamp", "samples", *series.COLUMNS)
PUT_METRICS = f"INSERT OR REPLACE INTO metrics ({', '.join(METRICS)}) VALUES ({', '.join('?' * len(METRICS))})"
"""A step that is not over is written again and again."""
READ_METRICS = f"SELECT {', '.join(METRICS)} FROM metrics ORDER BY step, timestamp"
SHORTEN_METRICS = """
    DELETE FROM metrics WHERE step = :step AND timestamp <=
    (SELECT timestamp FROM metrics WHERE step = :step ORDER BY timestamp DESC LIMIT 1 OFFSET :most)
"""
"""Leaves the newest `most` rows of a tier, whatever the clock says."""


class NewerDatabase(Exception):
    """A later llamaproxy has written it: what its columns mean is not known here."""


def steps(version: int, migrations: Sequence[str] = MIGRATIONS) -> list[str]:
    """The scripts that bring a database of this version up to date, one transaction each. Raises NewerDatabase."""
    if version > len(migrations):
        raise NewerDatabase(
            f"the database has version {version}, this llamaproxy knows {len(migrations)} at most; "
            "install the later release again, or set telemetry.database to another file"
        )
    return [
        f"BEGIN IMMEDIATE;{sql.rstrip().rstrip(';')};PRAGMA user_version = {number};COMMIT;"
        for number, sql in enumerate(migrations[version:], version + 1)
    ]
