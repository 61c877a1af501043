"""Sums and percentiles over requests: by model, by key, by day.

Pure. Owns what is summed, and what it is summed by; days are those of UTC. Only names of this module become SQL.
Percentiles are by nearest rank, of the newest rows only, so that looking takes a bounded time.
"""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

from llamaproxy.errors import InvalidRequest
from llamaproxy.telemetry.ledger import RequestRow, RequestState
from llamaproxy.telemetry.query import Sql

_GROUPS: dict[str, tuple[str, Callable[[RequestRow], str | None]]] = {
    "model": ("model", lambda row: row.model),
    "key": ("key", lambda row: row.key),
    "day": (
        "strftime('%Y-%m-%d', started_at, 'unixepoch')",
        lambda row: time.strftime("%Y-%m-%d", time.gmtime(row.started_at)),
    ),
}
_STATES = tuple(state for state in RequestState if state is not RequestState.IN_FLIGHT)
_SUMS = ("prompt_tokens", "cached_tokens", "completion_tokens", "bytes_in", "bytes_out")
_MOST = 10_000
"""Groups in one answer."""
MEASURES = ("queue_ms", "load_ms", "ttfb_ms", "duration_ms", "prompt_tps", "generation_tps")
PERCENTS = (50, 95)
NEWEST = 10_000
"""Rows that percentiles are of, the newest that match: some tenths of a second for SQLite, beside the event loop."""


def parse_groups(text: str) -> tuple[str, ...]:
    """From `model,day` and the like. Raises InvalidRequest."""
    groups = tuple(text.split(","))
    if len(set(groups)) != len(groups) or not set(groups) <= _GROUPS.keys():
        raise InvalidRequest(f"`by` must be some of {', '.join(_GROUPS)}, with commas between them", param="by")
    return groups


def parse_since(text: str) -> float:
    """Seconds since the epoch. Raises InvalidRequest."""
    try:
        since = float(text)
    except ValueError:
        since = math.nan
    if not (len(text) <= 32 and 0 <= since < 1e12):
        raise InvalidRequest("`since` must be a time in seconds since the epoch", param="since")
    return since


def columns(groups: Iterable[str]) -> tuple[str, ...]:
    return (*groups, "requests", *(state.value for state in _STATES), *_SUMS)


def sql(groups: tuple[str, ...], since: float) -> Sql:
    """Sums of the rows that began at `since` or later, as `columns`."""
    states = (f"sum(state = '{state}')" for state in _STATES)
    sums = (f"coalesce(sum({column}), 0)" for column in _SUMS)
    terms = ", ".join([*(_GROUPS[group][0] for group in groups), "count(*)", *states, *sums])
    places = ", ".join(str(number + 1) for number in range(len(groups)))
    text = f"SELECT {terms} FROM requests WHERE started_at >= ? GROUP BY {places} ORDER BY {places} LIMIT {_MOST}"
    return text, (since,)


def tally(rows: Iterable[RequestRow], groups: tuple[str, ...], since: float) -> list[tuple[Any, ...]]:
    """The same of rows in memory."""
    sums: dict[tuple[str | None, ...], list[int]] = {}
    for row in rows:
        if row.started_at >= since:
            name = tuple(_GROUPS[group][1](row) for group in groups)
            counted = (1, *(row.state is state for state in _STATES), *(getattr(row, sum) or 0 for sum in _SUMS))
            sums[name] = [a + b for a, b in zip(sums.get(name, [0] * len(counted)), counted, strict=True)]
    ordered = sorted(sums.items(), key=lambda item: tuple(part or "" for part in item[0]))
    return [(*name, *values) for name, values in ordered[:_MOST]]


def percentile_columns(groups: Iterable[str]) -> tuple[str, ...]:
    return (*groups, *(f"{measure}_p{percent}" for measure in MEASURES for percent in PERCENTS))


def percentile_sql(groups: tuple[str, ...], since: float) -> Sql:
    """Percentiles of the newest rows that began at `since` or later, as `percentile_columns`."""
    names = [f"g{number}" for number in range(len(groups))]
    terms = ", ".join(f"{_GROUPS[group][0]} AS {name}" for group, name in zip(groups, names, strict=True))
    by = ", ".join(names)
    ranked = " UNION ALL ".join(
        f"SELECT {by}, {number} AS measure, {measure} AS value, "
        f"row_number() OVER (PARTITION BY {by} ORDER BY {measure}) AS rank, count(*) OVER (PARTITION BY {by}) AS of "
        f"FROM newest WHERE {measure} IS NOT NULL"
        for number, measure in enumerate(MEASURES)
    )
    wanted = ", ".join(
        f"max(CASE WHEN measure = {number} AND rank = (of * {percent} + 99) / 100 THEN value END)"
        for number in range(len(MEASURES))
        for percent in PERCENTS
    )
    newest = (
        f"SELECT {terms}, {', '.join(MEASURES)} FROM requests WHERE started_at >= ? "
        f"ORDER BY started_at DESC LIMIT {NEWEST}"
    )
    text = f"WITH newest AS MATERIALIZED ({newest}) SELECT {by}, {wanted} FROM ({ranked}) GROUP BY {by} LIMIT {_MOST}"
    return text, (since,)


def percentiles(rows: Iterable[RequestRow], groups: tuple[str, ...], since: float) -> list[tuple[Any, ...]]:
    """The same of rows in memory."""
    found: dict[tuple[str | None, ...], list[list[float]]] = {}
    for row in rows:
        if row.started_at >= since:
            name = tuple(_GROUPS[group][1](row) for group in groups)
            for values, measure in zip(found.setdefault(name, [[] for _ in MEASURES]), MEASURES, strict=True):
                if (value := getattr(row, measure)) is not None:
                    values.append(value)
    return [(*name, *(_nearest(values, p) for values in lists for p in PERCENTS)) for name, lists in found.items()]


def _nearest(values: list[float], percent: int) -> float | None:
    return sorted(values)[(len(values) * percent + 99) // 100 - 1] if values else None


def joined(groups: tuple[str, ...], found: Iterable[Any], ranked: Iterable[Any]) -> list[dict[str, Any]]:
    """A dictionary for each group of `found`; without percentiles where none of its rows is among the newest."""
    size = len(groups)
    names = percentile_columns(groups)[size:]
    known = {cells[:size]: cells[size:] for cells in ranked}
    nothing = (None,) * len(names)
    return [
        {
            **dict(zip(columns(groups), cells, strict=True)),
            **{name: _short(value) for name, value in zip(names, known.get(cells[:size], nothing), strict=True)},
        }
        for cells in found
    ]


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
