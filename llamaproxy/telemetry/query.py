"""What can be asked of the rows, in SQL for the database and in Python for those that are still in memory.

Pure. Owns the order of rows and what a cursor means. Only names of this module become SQL, values are parameters.

Requests in flight come first, whatever the order; then each row after the one before it by the column asked for, by
the time it began, and by its number, so that no two rows have the same place.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from llamaproxy.errors import InvalidRequest
from llamaproxy.telemetry.ledger import FIELDS, RequestRow, RequestState
from llamaproxy.telemetry.schema import COLUMNS

MOST_ROWS = 1000
SORTS = frozenset(
    "started_at duration_ms ttfb_ms queue_ms load_ms prompt_tokens cached_tokens completion_tokens "
    "prompt_tps generation_tps bytes_in bytes_out replays".split()
)
_MOST_SORTED = 100_000
"""Rows, the newest of those that match, among which an order without an index is looked for."""
_CURSOR = re.compile(r"([01])_([-+.e\d]{1,32})_([-+.e\d]{1,32})_(\d{1,19})_(\d{1,19})", re.ASCII)
LONGEST_TEXT = 256
_COLUMNS = ", ".join(COLUMNS)

Sql = tuple[str, tuple[Any, ...]]


class Place(NamedTuple):
    """Where a row stands in an order."""

    ended: bool
    value: float
    started_at: float
    run: int
    number: int

    def __str__(self) -> str:
        """The cursor."""
        return "_".join(repr(part) for part in (int(self.ended), *self[1:]))


@dataclass(frozen=True, slots=True)
class Query:
    """One page of rows."""

    limit: int = 100
    before: Place | None = None
    model: str | None = None
    key: str | None = None
    state: RequestState | None = None
    column: str = "started_at"
    descending: bool = True

    @property
    def reads_database(self) -> bool:
        return self.state is not RequestState.IN_FLIGHT

    def place(self, run: int, row: RequestRow) -> Place:
        value = getattr(row, self.column)
        ended = row.state is not RequestState.IN_FLIGHT
        return Place(ended, -1 if value is None else value, row.started_at, run, row.number)

    def rank(self, place: Place) -> tuple[float, ...]:
        """Ascends in the order that was asked for."""
        sign = -1 if self.descending else 1
        return (place.ended, *(sign * part for part in place[1:]))

    def matches(self, row: RequestRow) -> bool:
        return all(wanted is None or getattr(row, name) == wanted for name, wanted in self._wanted().items())

    def after(self, place: Place) -> bool:
        """Whether a row of this place comes on this page, or later."""
        return self.before is None or self.rank(place) > self.rank(self.before)

    def sql(self) -> Sql:
        wanted = {name: value for name, value in self._wanted().items() if value is not None}
        conditions = [f"{name} = ?" for name in wanted]
        if self.state not in (None, RequestState.OK):
            conditions.append("state <> 'ok'")  # Has the index taken, which is on the others only.
        source, where, values = "requests", " AND ".join(conditions) or "true", [*wanted.values()]
        if self.column != "started_at":
            newest = f"SELECT {_COLUMNS} FROM requests WHERE {where} ORDER BY started_at DESC LIMIT {_MOST_SORTED}"
            source, where = f"({newest})", "true"
        after, position = self._sql_after()
        direction = "DESC" if self.descending else "ASC"
        order = ", ".join(f"{term} {direction}" for term in self._terms())
        sql = f"SELECT {_COLUMNS} FROM {source} WHERE {where} AND {after} ORDER BY {order} LIMIT ?"
        return sql, (*values, *position, self.limit)

    def _wanted(self) -> Mapping[str, str | None]:
        return {"model": self.model, "key": self.key, "state": self.state and self.state.value}

    def _terms(self) -> tuple[str, ...]:
        first = () if self.column == "started_at" else (f"coalesce({self.column}, -1)",)
        return (*first, "started_at", "run", "number")

    def _sql_after(self) -> Sql:
        if self.before is None or not self.before.ended:
            return "true", ()
        terms = self._terms()
        compared = "<" if self.descending else ">"
        marks = ", ".join("?" * len(terms))
        return f"({', '.join(terms)}) {compared} ({marks})", self.before[-len(terms) :]


def parse(asked: Mapping[str, str]) -> Query:
    """From the query of a URL; what it does not know is left alone. Raises InvalidRequest."""
    sort = asked.get("sort", "-started_at")
    column = sort.removeprefix("-")
    if column not in SORTS:
        raise InvalidRequest(f"`sort` must be one of {', '.join(sorted(SORTS))}, with - for descending", param="sort")
    return Query(
        limit=_limit(asked.get("limit", "100")),
        before=_place(asked["before"]) if "before" in asked else None,
        model=_text(asked, "model"),
        key=_text(asked, "key"),
        state=_state(asked["state"]) if "state" in asked else None,
        column=column,
        descending=sort.startswith("-"),
    )


def find_sql(request_id: str) -> Sql:
    """The newest of the rows with this id: clients may name theirs alike."""
    return f"SELECT {_COLUMNS} FROM requests WHERE id = ? ORDER BY started_at DESC LIMIT 1", (request_id,)


def to_row(cells: Iterable[Any]) -> tuple[int, RequestRow]:
    """The number of the process, and the row, from `COLUMNS`."""
    run, number, *fields = cells
    row = RequestRow(**dict(zip(FIELDS, fields, strict=True)), number=number)
    row.state, row.stream = RequestState(row.state), bool(row.stream)
    return run, row


def _limit(text: str) -> int:
    if not text.isdecimal() or len(text) > 4 or not 1 <= int(text) <= MOST_ROWS:
        raise InvalidRequest(f"`limit` must be a number from 1 to {MOST_ROWS}", param="limit")
    return int(text)


def _place(text: str) -> Place:
    match = _CURSOR.fullmatch(text)
    try:
        ended, value, started_at, run, number = match.groups() if match else ("", "", "", "", "")
        place = Place(ended == "1", float(value), float(started_at), int(run), int(number))
    except ValueError:
        place = None
    if place is None or not all(map(math.isfinite, place)) or max(place.run, place.number) >= 2**63:
        raise InvalidRequest("`before` must be the `next` of an earlier answer", param="before")
    return place


def _state(text: str) -> RequestState:
    try:
        return RequestState(text)
    except ValueError:
        raise InvalidRequest(f"`state` must be one of {', '.join(RequestState)}", param="state") from None


def _text(asked: Mapping[str, str], name: str) -> str | None:
    text = asked.get(name)
    if text is not None and (not 1 <= len(text) <= LONGEST_TEXT or not text.isprintable()):
        raise InvalidRequest(f"`{name}` must be a name of {LONGEST_TEXT} characters at most", param=name)
    return text
