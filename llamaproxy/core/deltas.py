"""Which events of a stream have a part of the answer, and what those of one token each have in common.

Pure. Owns how events of each API look, told by a few searches in their bytes; nothing here is parsed but comments.
Counts nothing: what is ordinary is counted by the meter, or by whoever forwards it and has seen the same.
"""

import re
from typing import NamedTuple, Protocol

from llamaproxy.core import sse
from llamaproxy.core.routing import Dialect

# In JSON a quote within a text has a backslash before it: no text can look like these.
FIRST = b'"index":0,'
"""Of the first choice, as llama-server spells it."""
NEVER = b"\n"
"""With a blank line begins no event."""
_GOES_ON = b'"finish_reason":null'
_TEXT = re.compile(
    rb'"(?:content|reasoning_content|reasoning|text|refusal|arguments|name)"\s*:\s*"[^"]|"tokens"\s*:\s*\[\s*\d'
)
_DELTA = re.compile(
    rb'\s*(?:event: ?|data: ?\{\s*"type"\s*:\s*")(?:response\.(?:[a-z_]+\.)*[a-z_]*delta|content_block_delta)\b'
)
_TOKENS = b'"tokens":['
_QUICK = {Dialect.OPENAI: (b'"delta":{"content":"', b'"'), Dialect.NATIVE: (_TOKENS, b"]")}
"""How llama-server's ordinary events have their content, and what follows at once where there is none."""


class Ordinary(Protocol):
    """Whoever sees to it that events are ordinary ones of one token each, and counts them for the meter.

    `beginning` is theirs, up to the token, and tells that they are of the first choice and not its end; `NEVER` where
    none is known that does. `latest` may have the framing of its chunk, which means nothing among the lines of an
    event.
    """

    beginning: bytes
    events: int
    latest: bytes


class Like(NamedTuple):
    """What the ordinary events of a stream have in common: all before the content, and marks, once in each.

    `empty` is in none that has content. In JSON a quote within a text has a backslash before it: no text can look like
    any of them.
    """

    beginning: bytes
    marks: tuple[bytes, ...]
    empty: bytes

    def events(self, together: bytes) -> int:
        """How many events these are, if all of them are like that and have one token each; 0 where others may be
        among them."""
        if not together.startswith(self.beginning) or not together.endswith(b"\n\n"):
            return 0
        events = together.count(b"\n\n")
        if (
            together.count(b"\n\n" + self.beginning) != events - 1
            or together.find(self.empty) >= 0
            or together.find(b'"usage"') >= 0
            or together.find(b"\r") >= 0
            or (self.marks and any(together.count(mark) != events for mark in self.marks))
        ):
            return 0
        return events

    @property
    def going_on(self) -> bytes:
        """The beginning, where that alone tells that an event is of the first choice and not its end."""
        return self.beginning if FIRST in self.beginning and _GOES_ON in self.beginning else NEVER


UNKNOWN = Like(NEVER, (), b"")


class Deltas:
    """Of one API."""

    def __init__(self, dialect: Dialect) -> None:
        self._by_name = dialect in (Dialect.RESPONSES, Dialect.ANTHROPIC)
        self._quick, self._empty = _QUICK.get(dialect, (b"", b" "))

    def has_content(self, event: bytes) -> bool:
        if self._by_name:
            return _DELTA.match(event) is not None
        at = event.find(self._quick)
        if at >= 0 and not event.startswith(self._empty, at + len(self._quick)):
            return True
        if event[:1] == b":" or b"\n:" in event:  # a comment may say anything
            told = sse.parse(event)
            event = told.data if told else b""
        return _TEXT.search(event) is not None

    def like(self, event: bytes) -> Like:
        """How events are that are like this one, which has content."""
        if self._quick == _TOKENS:
            before, opening, _ = event.partition(b'"content":"')
            return Like(before + opening, (_TOKENS, FIRST), _TOKENS + b"]")
        text = None if self._by_name else _TEXT.search(event)
        if not text:
            return UNKNOWN
        beginning = event[: text.end() - 1]
        return Like(beginning, () if FIRST in beginning else (FIRST,), beginning + b'"')
