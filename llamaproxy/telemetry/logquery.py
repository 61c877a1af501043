"""What can be asked of the log, in SQL for the database and in Python for what is still in memory.

Pure. Owns what a cursor means: the `id` of an entry, of which there are no two. Values become parameters, never SQL.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llamaproxy.errors import InvalidRequest
from llamaproxy.telemetry.logline import LEVELS, LogEntry
from llamaproxy.telemetry.query import Sql
from llamaproxy.telemetry.usage import parse_since

MOST_ENTRIES = 1000
_COLUMNS = "timestamp, level, source, message, model, request_id, context"
INSERT = f"INSERT OR IGNORE INTO log_lines ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
SPELLINGS = {**LEVELS, "warn": logging.WARNING}
NAME = "^[!-~]{1,128}$"
LAST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class LogQuery:
    """A page: of `level` or worse, after the entry `after` and before the entry `before`.

    The newest of them, newest first; where `after` was asked for the oldest, oldest first, to go on from there.
    """

    limit: int = 100
    before: int = LAST
    after: int = -1
    forward: bool = False
    level: int = logging.DEBUG
    model: str | None = None
    request_id: str | None = None

    def matches(self, entry: LogEntry) -> bool:
        return (
            self.after < entry.id < self.before
            and entry.level >= self.level
            and self.model in (None, entry.model)
            and self.request_id in (None, entry.request_id)
        )

    def page(self, entries: Iterable[LogEntry]) -> list[LogEntry]:
        """Of entries in any order, some of which may be there twice."""
        found = {entry.id: entry for entry in entries if self.matches(entry)}
        return [found[id] for id in sorted(found, reverse=not self.forward)[: self.limit]]

    def sql(self) -> Sql:
        wanted = {"model": self.model, "request_id": self.request_id}
        given = {name: value for name, value in wanted.items() if value is not None}
        where = "".join(f" AND {name} = ?" for name in given)
        order = "ASC" if self.forward else "DESC"
        return (
            f"SELECT {_COLUMNS} FROM log_lines WHERE timestamp > ? AND timestamp < ? AND level >= ?{where} "
            f"ORDER BY timestamp {order} LIMIT ?",
            (self.after, self.before, self.level, *given.values(), self.limit),
        )


def parse(asked: Mapping[str, str]) -> LogQuery:
    """From the query of a URL; what it does not know is left alone. Raises InvalidRequest."""
    since = round(parse_since(asked.get("since", "0")) * 1e6) - 1
    after = _number(asked, "after", -1)
    return LogQuery(
        limit=_limit(asked.get("limit", "100")),
        before=_number(asked, "before", LAST),
        after=max(since, after),
        forward="after" in asked,
        level=parse_level(asked.get("level", "debug")),
        model=_name(asked, "model"),
        request_id=_name(asked, "request_id"),
    )


def parse_level(text: object) -> int:
    """Raises InvalidRequest."""
    if not isinstance(text, str) or text not in SPELLINGS:
        raise InvalidRequest(f"`level` must be one of {', '.join(LEVELS)}", param="level")
    return SPELLINGS[text]


def to_entry(cells: Iterable[Any]) -> LogEntry:
    return LogEntry(*cells)


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MOST_ENTRIES):
        raise InvalidRequest(f"`limit` must be a number from 1 to {MOST_ENTRIES}", param="limit")
    return int(text)


def _number(asked: Mapping[str, str], name: str, default: int) -> int:
    text = asked.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) <= LAST):
        raise InvalidRequest(f"`{name}` must be the `id` of an entry", param=name)
    return int(text)


def _name(asked: Mapping[str, str], name: str) -> str | None:
    text = asked.get(name)
    if text is not None and not re.fullmatch(NAME, text):
        raise InvalidRequest(f"`{name}` must be a name of 128 characters at most", param=name)
    return text
