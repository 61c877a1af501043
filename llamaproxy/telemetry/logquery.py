"""What can be asked of the log, in SQL for the database and in Python for what is still in memory.

Pure. Owns what a cursor means: the `id` of an entry, of which there are no two. Values become parameters, never SQL.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from llamaproxy.errors import InvalidRequest
from llamaproxy.telemetry.logline import LEVELS, LogEntry
from llamaproxy.telemetry.query import Sql
from llamaproxy.telemetry.usage import parse_since

MOST_ENTRIES = 1000
LONGEST_TEXT = 200
MOST_SEARCHED = 20_000
"""Rows of the database that one search for a text looks at."""
_COLUMNS = "timestamp, level, source, message, model, request_id, context"
INSERT = f"INSERT OR IGNORE INTO log_lines ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
SPELLINGS = {**LEVELS, "warn": logging.WARNING}
NAME = "^[!-~]{1,128}$"
LAST = 2**63 - 1
_TEXT = "source || ' ' || coalesce(model, '') || ' ' || message || char(10) || coalesce(context, '')"


@dataclass(frozen=True, slots=True)
class LogQuery:
    """A page: of `level` or worse, after the entry `after` and before the entry `before`.

    The newest of them, newest first; where `after` was asked for the oldest, oldest first, to go on from there. `text`
    stands somewhere in them, its ASCII letters in either case: so SQL compares, and memory does as SQL.
    """

    limit: int = 100
    before: int = LAST
    after: int = -1
    forward: bool = False
    level: int = logging.DEBUG
    model: str | None = None
    request_id: str | None = None
    text: str = ""

    def matches(self, entry: LogEntry) -> bool:
        return (
            self.after < entry.id < self.before
            and entry.level >= self.level
            and self.model in (None, entry.model)
            and self.request_id in (None, entry.request_id)
            and (not self.text or _folded(self.text) in _folded(_spelled(*entry[2:5], entry.context)))
        )

    def page(self, entries: Iterable[LogEntry]) -> list[LogEntry]:
        """Of entries in any order, some of which may be there twice."""
        found = {entry.id: entry for entry in entries if self.matches(entry)}
        return [found[id] for id in sorted(found, reverse=not self.forward)[: self.limit]]

    def sql(self) -> Sql:
        wanted = {"model": self.model, "request_id": self.request_id}
        given = {name: value for name, value in wanted.items() if value is not None}
        where = "".join(f" AND {name} = ?" for name in given)
        if self.text:
            where += f" AND {_TEXT} LIKE ? ESCAPE '\\'"
            given["text"] = _pattern(self.text)
        return (
            f"SELECT {_COLUMNS} FROM log_lines WHERE timestamp > ? AND timestamp < ? AND level >= ?{where} "
            f"ORDER BY timestamp {self._order} LIMIT ?",
            (self.after, self.before, self.level, *given.values(), self.limit),
        )

    def edge_sql(self, most: int = MOST_SEARCHED) -> Sql:
        """The last of as many rows as a search looks at: nothing where there are fewer."""
        return (
            "SELECT timestamp FROM log_lines WHERE timestamp > ? AND timestamp < ? "
            f"ORDER BY timestamp {self._order} LIMIT 1 OFFSET ?",
            (self.after, self.before, most - 1),
        )

    def within(self, edge: int) -> "LogQuery":
        """The same, of the lines up to this one."""
        return replace(self, before=edge + 1) if self.forward else replace(self, after=edge - 1)

    def following(self, entries: list[LogEntry], edge: int | None) -> int | None:
        """Where the next page goes on; None where nothing is older. Who follows goes on for ever."""
        if len(entries) == self.limit:
            return entries[-1].id
        if edge is not None or not self.forward:
            return edge
        return entries[-1].id if entries else max(self.after, 0)

    def is_seen_in(self, shown: Mapping[str, Any]) -> bool:
        """Whether the text is there still when secrets are not: who searches shall not find them by guessing."""
        return not self.text or _folded(self.text) in _folded(_spelled(**shown))

    @property
    def _order(self) -> str:
        return "ASC" if self.forward else "DESC"


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
        text=_text(asked.get("q", "")),
    )


def parse_level(text: object) -> int:
    """Raises InvalidRequest."""
    if not isinstance(text, str) or text not in SPELLINGS:
        raise InvalidRequest(f"`level` must be one of {', '.join(LEVELS)}", param="level")
    return SPELLINGS[text]


def to_entry(cells: Iterable[Any]) -> LogEntry:
    return LogEntry(*cells)


def _spelled(source: str, message: str, model: str | None, context: str | None, **_: object) -> str:
    """As `_TEXT` has it."""
    return f"{source} {model or ''} {message}\n{context or ''}"


def _folded(text: str) -> bytes:
    """Bytes have no case but that of ASCII."""
    return text.encode(errors="surrogatepass").lower()


def _pattern(text: str) -> str:
    """For LIKE, in which no character of it has a meaning."""
    return "%" + re.sub(r"([%_\\])", r"\\\1", text) + "%"


def _text(text: str) -> str:
    if len(text) > LONGEST_TEXT or not text.isprintable():
        raise InvalidRequest(f"`q` must be a text of {LONGEST_TEXT} printable characters at most", param="q")
    return text


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
