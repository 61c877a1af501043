"""Bodies of the last requests and answers, for somebody who looks for a fault. Off unless the operator says otherwise.

Owns a ring in memory: nothing of it is written anywhere, and it ends with the process. Of each body the two ends are
kept, because faults show at them and a picture in between shows nothing. What looks like a secret is masked when it is
shown.
"""

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from llamaproxy.telemetry.ledger import RequestRow
from llamaproxy.telemetry.logline import Redact

END_BYTES = 64 * 1024
"""Of each end of a body."""
MOST = 100
"""Requests: 25 MiB at most."""
_BEFORE = 1024
"""Bytes kept before the last ones, and not shown: they say that what follows is a secret."""
_LONGEST_WORD = 4096
_WORD = re.compile(rf"[^\s\"',]{{0,{_LONGEST_WORD}}}")


class Ends:
    """The first and the last bytes of what is fed, in pieces of any size."""

    __slots__ = ("_last", "_last_bytes", "_limit", "first", "total")

    def __init__(self, limit: int = END_BYTES) -> None:
        self._limit = limit
        self.first = b""
        self._last: deque[bytes] = deque()
        self._last_bytes = 0
        self.total = 0

    def feed(self, data: bytes) -> None:
        self.total += len(data)
        if room := self._limit - len(self.first):
            self.first += data[:room]
            data = data[room:]
        if data:
            # A copy: what is fed may be a view of something larger, or of a buffer that is used again.
            self._last.append(bytes(data[-self._limit - _BEFORE :]))
            self._last_bytes += len(self._last[-1])
            self._trim()

    @property
    def last(self) -> bytes:
        """What came after `first`, or the end of it, with something before it."""
        return b"".join(self._last)[-self._limit - _BEFORE :]

    def _trim(self) -> None:
        while self._last_bytes - len(self._last[0]) >= self._limit + _BEFORE:
            self._last_bytes -= len(self._last.popleft())
        if len(self._last) > 256:
            # Many small pieces cost more than what they hold.
            joined = self.last
            self._last, self._last_bytes = deque([joined]), len(joined)

    def shown(self, redact: Redact) -> dict[str, Any]:
        """`omitted` bytes, about, are missing between the two ends."""
        last = self.last
        if self.total == len(self.first) + len(last):
            return {"bytes": self.total, "omitted": 0, "first": redact(_text(self.first + last)), "last": None}
        # A word that was cut in two may be a part of a secret, and not look like one.
        first = redact(_without_last_word(_text(self.first)))
        text = _text(last)
        tail = redact(text[len(_first_word(text)) :])[_BEFORE:]
        return {
            "bytes": self.total,
            "omitted": self.total - len(self.first) - self._limit,
            "first": f"{first}…",
            "last": f"…{tail}",
        }


@dataclass(slots=True)
class Capture:
    """One request's; `observe` is fed the content of its answer as it passes. A replay begins the answer anew."""

    id: str
    model: str | None
    started_at: float
    request: Ends = field(default_factory=Ends)
    answer: Ends = field(default_factory=Ends)

    def observe(self, data: bytes) -> None:
        self.answer.feed(data)

    def shown(self, redact: Redact) -> dict[str, Any]:
        """Takes up to a tenth of a second where bodies are large and full of oddities: not for the event loop."""
        return {
            "id": self.id,
            "model": self.model,
            "started_at": round(self.started_at, 3),
            "request": self.request.shown(redact),
            "response": self.answer.shown(redact),
        }


class Captures:
    """The last ones."""

    def __init__(self, on: bool, most: int = MOST) -> None:
        self._on = on
        self._kept: deque[Capture] = deque(maxlen=most)

    def switch(self, on: bool) -> None:
        """Who switches it off wants nothing to be kept."""
        self._on = on
        if not on:
            self.clear()

    def begin(self, row: RequestRow, content: bytes) -> Capture | None:
        """None while captures are off. The same request's next try takes the place of the one before."""
        if not self._on:
            return None
        capture = Capture(row.id, row.model, row.started_at)
        capture.request.feed(content)
        if row.replays:
            self.delete(row.id)
        self._kept.append(capture)
        return capture

    def find(self, id: str) -> Capture | None:
        """The newest of this id: clients may name theirs alike."""
        return next((capture for capture in reversed(self._kept) if capture.id == id), None)

    def delete(self, id: str) -> bool:
        """All of this id; whether there was any."""
        left = [capture for capture in self._kept if capture.id != id]
        found = len(left) < len(self._kept)
        self._kept = deque(left, maxlen=self._kept.maxlen)
        return found

    def clear(self) -> None:
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)


def _without_last_word(text: str) -> str:
    return text[: len(text) - len(_first_word(text[: -_LONGEST_WORD - 1 : -1]))]


def _first_word(text: str) -> str:
    """What stands before the first blank, comma or quote."""
    match = _WORD.match(text)
    return match[0] if match else ""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
