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
    """
    ALTER TABLE metrics RENAME TO metric_steps;
    ALTER TABLE logs RENAME TO log_lines;
    CREATE TABLE model_events (
        timestamp INTEGER PRIMARY KEY,  -- microseconds since the epoch; no two events have the same
        model TEXT NOT NULL,            -- '' for all: a gateway began, and whatever ran before does not run any more
        spawn INTEGER NOT NULL,         -- which of the model's processes
        breaker INTEGER NOT NULL,       -- 1 where `state` is that of the circuit breaker, 0 for that of the process
        state TEXT NOT NULL,
        reason TEXT,
        detail TEXT,
        seconds REAL                    -- how long the state before it lasted
    );
    CREATE INDEX model_events_by_model ON model_events (model, breaker, timestamp);
    CREATE TABLE model_settings (
        name TEXT PRIMARY KEY,
        type TEXT NOT NULL,
        parameters TEXT NOT NULL,       -- every setting as JSON, secrets masked
        model_path TEXT,
        model_url TEXT,
        ctx_size INTEGER,
        batch_size INTEGER,
        threads INTEGER,
        created_at REAL NOT NULL,       -- seconds since the epoch
        updated_at REAL NOT NULL
    );
    CREATE VIEW models AS SELECT
        rowid AS id, name, type,
        coalesce((SELECT state FROM model_events WHERE model IN (name, '') AND breaker = 0
                  ORDER BY timestamp DESC LIMIT 1), 'stopped') AS status,
        parameters, model_path, model_url, ctx_size, batch_size, threads, created_at, updated_at
        FROM model_settings;
    CREATE VIEW metrics AS SELECT
        timestamp, cpu_percent AS cpu_usage, 100 * memory_used / memory_total AS memory_usage,
        100 * disk_used / disk_total AS disk_usage, gpu_percent AS gpu_usage, gpu_temperature,
        gpu_memory_used, gpu_memory_total, gpu_power, active_models, uptime, requests_per_minute
        FROM metric_steps WHERE step = 10;
    CREATE VIEW logs AS SELECT
        timestamp AS id,
        CASE WHEN level >= 40 THEN 'error' WHEN level >= 30 THEN 'warn' WHEN level >= 20 THEN 'info' ELSE 'debug' END
        AS level, message, source, context, timestamp / 1e6 AS timestamp
        FROM log_lines;
    """,
    "ALTER TABLE metric_steps ADD COLUMN generation_per_second REAL",
    "ALTER TABLE requests ADD COLUMN error TEXT",  # the code of the gateway's own error
)
"""The n-th leads from version n - 1 to n. Statements only: `steps` makes a transaction of each."""

COLUMNS = ("run", "number", *FIELDS)
_ROW = f"({', '.join('?' * len(COLUMNS))})"
_INTO = f"INSERT OR IGNORE INTO requests ({', '.join(COLUMNS)}) VALUES "
INSERTS = {count: _INTO + ", ".join([_ROW] * count) for count in (50, 5, 1)}
"""By how many rows they take, most first: what a statement costs is shared by them."""
INSERT = INSERTS[1]
"""A row that is there already stays as it is: what is written again after a failure, or after a crash, is no other."""


METRICS = ("step", "timestamp", "samples", *series.COLUMNS)
PUT_METRICS = f"INSERT OR REPLACE INTO metric_steps ({', '.join(METRICS)}) VALUES ({', '.join('?' * len(METRICS))})"
"""A step that is not over is written again and again."""
READ_METRICS = f"SELECT {', '.join(METRICS)} FROM metric_steps ORDER BY step, timestamp"
SHORTEN_METRICS = """
    DELETE FROM metric_steps WHERE step = :step AND timestamp <=
    (SELECT timestamp FROM metric_steps WHERE step = :step ORDER BY timestamp DESC LIMIT 1 OFFSET :most)
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
