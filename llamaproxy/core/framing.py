"""Where a body ends, told without touching it: bytes are counted, and passed on as they came.

Pure. A chunked body is followed chunk by chunk, so that its end is seen where it is and nothing that follows is taken
for a part of it. Source: RFC 9112, section 7.1.
"""

import re
from typing import Protocol

from llamaproxy.core.response import BadResponse, Framing, Head

MAX_LINE = 4096
"""Bytes of a chunk's first line with its extensions, and of all trailer fields together."""

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")


class Body(Protocol):
    """`ended` once the last byte was fed."""

    ended: bool

    def feed(self, data: bytes) -> None:
        """Count what came. Raises BadResponse where it does not belong to the body."""

    def close(self) -> None:
        """The connection was closed. Raises BadResponse where the body is not all there."""


def body_of(head: Head) -> Body:
    match head.framing:
        case Framing.CHUNKED:
            return ChunkedBody()
        case Framing.CLOSE:
            return BodyUntilClose()
    return LongBody(head.length)


class LongBody:
    """A body of known length, which may be 0."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.ended = length == 0

    def feed(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise BadResponse("it is longer than it said")
        self.ended = self._left == 0

    def close(self) -> None:
        if not self.ended:
            raise BadResponse("it is shorter than it said")


class BodyUntilClose:
    """A body that ends with its connection."""

    def __init__(self) -> None:
        self.ended = False

    def feed(self, data: bytes) -> None:
        """Everything belongs to it."""

    def close(self) -> None:
        self.ended = True


class ChunkedBody:
    """Follows sizes, and looks at nothing else of a chunk but the line's end after it."""

    def __init__(self) -> None:
        self.ended = False
        self._left = 0
        self._line = b""
        self._trailers = 0
        self._expect = self._size

    def feed(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            if self.ended:
                raise BadResponse("something follows its last chunk")
            if self._left:
                step = min(self._left, len(data) - position)
                self._left -= step
                position += step
            else:
                position = self._read_line(data, position)

    def close(self) -> None:
        if not self.ended:
            raise BadResponse("it breaks off in the middle of a chunk")

    def _read_line(self, data: bytes, position: int) -> int:
        """A line may come in pieces; returns where the next thing begins."""
        end = data.find(b"\n", position)
        stop = len(data) if end < 0 else end + 1
        self._line += data[position:stop]
        if len(self._line) > MAX_LINE:
            raise BadResponse("a line between its chunks is too long")
        if end >= 0:
            if self._line[-2:] != b"\r\n":
                raise BadResponse("a line between its chunks does not end properly")
            line, self._line = self._line[:-2], b""
            self._expect(line)
        return stop

    def _size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if not match:
            raise BadResponse("the size of a chunk is malformed")
        self._left = int(match[1], 16)
        self._expect = self._end_of_chunk if self._left else self._trailer

    def _end_of_chunk(self, line: bytes) -> None:
        if line:
            raise BadResponse("a chunk is longer than it said")
        self._expect = self._size

    def _trailer(self, line: bytes) -> None:
        self._trailers += len(line)
        if not line:
            self.ended = True
        elif self._trailers > MAX_LINE or not _TRAILER.fullmatch(line):
            raise BadResponse("a trailer field is malformed, or there are too many")
