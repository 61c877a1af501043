"""Server-Sent Events: where one ends and the next begins, whichever way the bytes come, and what is in one.

Pure. Owns line ends and blank lines; knows nothing of any API's events. Blocks are passed on as they came, so that
whoever forwards them changes no byte. Memory is bounded: an event above the bound is told in fragments, not kept.
Source: the HTML standard, section 9.2.6, "Interpreting an event stream".
"""

import re
from dataclasses import dataclass

MAX_EVENT = 1024 * 1024
"""Bytes. The largest that llama-server sends is the last event of /v1/responses, which repeats the whole answer."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
# A CR at the end of what has come may be half of a CRLF: it ends no line here before the next byte is seen. After a
# blank line it is not waited for: the LF that follows will be a blank line of its own, which means nothing.
_BLANK = re.compile(rb"(?:\r\n|\n|\r(?=[^\n]))(?:\r\n|\n|\r)")
_OVERLAP = 3
"""Bytes before the end of what was searched in which a blank line may have begun."""
_BOM = b"\xef\xbb\xbf"


class Splitter:
    """Cuts a stream behind its blank lines; whoever wants the parts says so in a subclass.

    `block` gets each event: all its lines, the blank one included. `fragment` gets what belongs to an event of more
    than `most` bytes, piece by piece, and what is left at the end of the stream. Together they get every byte that was
    fed, once, in order.
    """

    def __init__(self, most: int = MAX_EVENT) -> None:
        self._most = most
        self.held = bytearray()
        """What was fed and not passed on yet; the same object all the time."""
        self._too_large = False

    def block(self, block: bytes) -> None:
        """One event, blank line included."""

    def fragment(self, part: bytes) -> None:
        """A part of what is no event, or too large for one."""

    def feed(self, data: bytes) -> None:
        # Engines send whole events with plain line ends: those are passed on as the pieces that they are.
        if not self.held and b"\r" not in data:
            data = self._cut_all(data)
            if not data:
                return
        searched = max(0, len(self.held) - _OVERLAP)
        self.held += data
        start = 0
        while blank := _BLANK.search(self.held, searched):
            self._cut(bytes(self.held[start : blank.end()]))
            start = searched = blank.end()
        del self.held[:start]
        if self._too_large or len(self.held) > self._most:
            self._too_large = True
            self._release(len(self.held) - _OVERLAP)

    def end(self) -> None:
        """The stream has ended: what is left is no event."""
        self._release(len(self.held))
        self._too_large = False

    def _cut_all(self, data: bytes) -> bytes:
        """All events of a piece that has nothing but LF in it; returns the rest."""
        start = 0
        while (end := data.find(b"\n\n", start) + 2) > 1:
            self._cut(data[start:end])
            start = end
        return data[start:]

    def _cut(self, block: bytes) -> None:
        whole = not self._too_large and len(block) <= self._most
        self._too_large = False
        (self.block if whole else self.fragment)(block)

    def _release(self, count: int) -> None:
        if count > 0:
            self.fragment(bytes(self.held[:count]))
            del self.held[:count]


@dataclass(frozen=True, slots=True)
class Event:
    """`name` is empty where the event has none; `data` has its lines joined by LF, in UTF-8 as it came."""

    name: bytes
    data: bytes


def parse(block: bytes) -> Event | None:
    """The event of one block; None where it has no data: comments, blank lines, an `id:` or `retry:` alone.

    A byte order mark is taken for the beginning of the stream.
    """
    name = b""
    data: list[bytes] = []
    for line in _LINE_END.split(block.removeprefix(_BOM)):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return Event(name, b"\n".join(data)) if data else None
