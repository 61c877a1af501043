"""Where a body ends, told without touching it: bytes are counted, and passed on as they came.

Pure. A chunked body is followed chunk by chunk, so that its end is seen where it is and nothing that follows is taken
for a part of it. Source: RFC 9112, section 7.1.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from llamaproxy.core.response import CHUNKED, CLOSE, BadResponse, Head

MAX_LINE = 4096
"""Bytes of a chunk's first line with its extensions, and of all trailer fields together."""

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")


class Body(Protocol):
    """`ended` once the last byte was fed. `between_chunks`: the next byte begins a chunk, or the end of them."""

    ended: bool
    between_chunks: bool

    def feed(self, data: bytes) -> None:
        """Count what came. Raises BadResponse where it does not belong to the body."""

    def close(self) -> None:
        """The connection was closed. Raises BadResponse where the body is not all there."""

    def insert(self, content: bytes) -> bytes:
        """What to send, from where the body is now, for `content` to be the next thing that is read of it, or nothing
        where there is no place for it."""


Payload = Callable[[bytes], object]
"""Called with the content of a body as it comes, without framing."""


def body_of(head: Head, payload: Payload | None = None) -> Body:
    if head.framing is CHUNKED:
        return ChunkedBody(payload)
    return BodyUntilClose(payload) if head.framing is CLOSE else LongBody(head.length, payload)


def chunk(content: bytes) -> bytes:
    """The content as one chunk; it must not be empty, which would be the end."""
    return b"".join((_size_line(len(content)), content, b"\r\n"))


def _size_line(size: int) -> bytes:
    return SIZE_LINES[size] if size < SHORT else b"%x\r\n" % size


@lru_cache(maxsize=4096)
def _only_line(length: int) -> bytes:
    """How a piece of so many bytes begins that is one chunk; no chunk has some lengths, and nothing begins so."""
    for digits in range(1, 16):
        size = length - digits - len(b"\r\n\r\n")
        if size > 0 and len(line := _size_line(size)) == digits + 2:
            return line
    return bytes(length + 1)


SHORT = 2048
SIZE_LINES = tuple(b"%x\r\n" % size for size in range(SHORT))
"""How chunks of fewer bytes begin, by the size of their content."""
ONLY_LINES = tuple(_only_line(length) for length in range(SHORT))
"""The same by the length of all of them."""


def whole_chunks(data: bytes) -> bytes:
    """The content where this is nothing but whole chunks, their sizes spelled as engines do; otherwise, and where the
    last one, the end, is among them, nothing."""
    lines = data.split(b"\r\n")
    contents = lines[1::2]
    if lines.pop() or b"" in contents or lines[::2] != [b"%x" % len(content) for content in contents]:
        return b""
    return b"".join(contents)


class LongBody:
    """A body of known length, which may be 0."""

    between_chunks = False

    def __init__(self, length: int, payload: Payload | None = None) -> None:
        self._payload = payload
        self._left = length
        self.ended = length == 0

    def feed(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise BadResponse("it is longer than it said")
        if self._payload:
            self._payload(data)
        self.ended = self._left == 0

    def close(self) -> None:
        if not self.ended:
            raise BadResponse("it is shorter than it said")

    def insert(self, content: bytes) -> bytes:
        """There is never room."""
        return b""


class BodyUntilClose:
    """A body that ends with its connection."""

    between_chunks = False

    def __init__(self, payload: Payload | None = None) -> None:
        self._payload = payload
        self.ended = False

    def feed(self, data: bytes) -> None:
        """Everything belongs to it."""
        if self._payload:
            self._payload(data)

    def close(self) -> None:
        self.ended = True

    def insert(self, content: bytes) -> bytes:
        """Only who relays it knows how it goes on to the client."""
        return b""


class ChunkedBody:
    """Follows sizes, and looks at nothing else of a chunk but the line's end after it."""

    def __init__(self, payload: Payload | None = None) -> None:
        self.ended = False
        self._payload = payload
        self._left = 0
        self._line = b""
        self._trailers = 0
        self._expect: Callable[[ChunkedBody, bytes], None] = ChunkedBody._size
        self.between_chunks = True

    def feed(self, data: bytes) -> None:
        # As the chunks of a stream come: each in a piece, its size spelled as engines do, or some together.
        if self.between_chunks:
            line = _only_line(len(data))
            only = data[: len(line)] == line and data[-2:] == b"\r\n"
            if content := data[len(line) : -2] if only else whole_chunks(data):
                if self._payload:
                    self._payload(content)
                return
        self._follow(data, self._whole_chunks(data) if self.between_chunks else 0)
        self.between_chunks = not self._left and not self._line and self._expect is ChunkedBody._size

    def _follow(self, data: bytes, position: int) -> None:
        while position < len(data):
            if self.ended:
                raise BadResponse("something follows its last chunk")
            if self._left:
                step = min(self._left, len(data) - position)
                if self._payload:
                    self._payload(data[position : position + step])
                self._left -= step
                position += step
            else:
                position = self._read_line(data, position)

    def _whole_chunks(self, data: bytes) -> int:
        """Pass over chunks before one that has not come whole; returns where the first other thing begins.

        It takes nothing that would not be taken step by step.
        """
        position = 0
        while line := _SIZE_LINE.match(data, position):
            end = line.end() + int(line[1], 16)
            if end == line.end() or data[end : end + 2] != b"\r\n":
                break
            if self._payload:
                self._payload(data[line.end() : end])
            position = end + 2
        return position

    def close(self) -> None:
        if not self.ended:
            raise BadResponse("it breaks off in the middle of a chunk")

    def insert(self, content: bytes) -> bytes:
        """The rest of a chunk that was begun is filled with it. Nothing where a line between chunks was begun, or where
        the end was: there is no place for it.
        """
        if self.ended or self._line or self._expect is ChunkedBody._trailer:
            return b""
        if len(content) <= self._left:
            return content
        head, rest = content[: self._left], content[self._left :]
        line_end = b"\r\n" if self._left or self._expect is ChunkedBody._end_of_chunk else b""
        return head + line_end + chunk(rest)

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
            self._expect(self, line)
        return stop

    def _size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if not match:
            raise BadResponse("the size of a chunk is malformed")
        self._left = int(match[1], 16)
        self._expect = ChunkedBody._end_of_chunk if self._left else ChunkedBody._trailer

    def _end_of_chunk(self, line: bytes) -> None:
        if line:
            raise BadResponse("a chunk is longer than it said")
        self._expect = ChunkedBody._size

    def _trailer(self, line: bytes) -> None:
        self._trailers += len(line)
        if not line:
            self.ended = True
        elif self._trailers > MAX_LINE or not _TRAILER.fullmatch(line):
            raise BadResponse("a trailer field is malformed, or there are too many")
