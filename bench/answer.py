"""A response as a client reads it: enough of HTTP/1.1 to know where it ends and whether all of it has come.

Owns the framing, and counts the events of streams on the way. Has no socket, and keeps nothing but the end of a body.
"""

import re

MAX_HEAD = 64 * 1024
_TAIL = 1024

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,12})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
_EVENT = b"data:"


class BadAnswer(Exception):
    """It is no HTTP that this client understands."""


class Answer:
    """One response as it comes. `ended` once it is whole; `events` are those of a stream, `tail` its last bytes."""

    def __init__(self) -> None:
        self.status = 0
        self.begun = self.closes = self.ended = False
        self.events = 0
        self.tail = b""
        self._buffer = b""
        self._left: int | None = None
        self._chunked = self._in_body = False

    def feed(self, data: bytes) -> None:
        """Raises BadAnswer."""
        self._buffer += data
        if not self._in_body and not self._read_head():
            return
        if self._chunked:
            self._read_chunks()
        else:
            self._read_plain()

    def closed(self) -> None:
        """The connection was: that ends an answer without length, and no other."""
        self.ended = self._in_body and self._left is None and not self._chunked

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise BadAnswer("the head does not end")
            return False
        head, self._buffer = self._buffer[: end + 2], self._buffer[end + 4 :]
        if not head.startswith(b"HTTP/1.") or not head[9:12].isdigit():
            raise BadAnswer("there is no status line")
        self.status = int(head[9:12])
        self.closes = bool(_CLOSE.search(head))
        self._chunked = bool(_CHUNKED.search(head))
        found = _LENGTH.search(head)
        self._left = int(found[1]) if found and not self._chunked else None
        self._in_body = True
        return True

    def _read_plain(self) -> None:
        data, self._buffer = self._buffer, b""
        if self._left is not None:
            if len(data) > self._left:
                raise BadAnswer("there is more than the length says")
            self._left -= len(data)
            self.ended = not self._left
        self._take(data)

    def _read_chunks(self) -> None:
        buffer, at = self._buffer, 0
        while (line := buffer.find(b"\r\n", at)) >= 0:
            size = _size(buffer[at:line])
            if len(buffer) < line + 4 + size:
                break
            self._take(buffer[line + 2 : line + 2 + size])
            at = line + 4 + size
            if not size:
                self.ended = True
                break
        self._buffer = buffer[at:]

    def _take(self, data: bytes) -> None:
        """An event may be cut in two anywhere; the end of what came before is short enough not to hold one itself."""
        self.events += (self.tail[1 - len(_EVENT) :] + data).count(_EVENT)
        self.tail = (self.tail + data)[-_TAIL:] if len(data) < _TAIL else data[-_TAIL:]


def _size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError as error:
        raise BadAnswer("a chunk has no size") from error
