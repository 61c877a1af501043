"""The head of an engine's response: parsed strictly, and what it says about the body.

Pure. What could be read in two ways is refused, because whoever reads it in the other way would take a part of one
response for another. Source: RFC 9112, sections 4 to 6 and 9.3; RFC 9110, section 5.
"""

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

MAX_HEAD = 64 * 1024
"""Bytes."""
MAX_FIELDS = 200
SWITCHING = 101
MAX_INTERIM = 8
"""Interim responses (1xx) before the real one; llama-server sends none."""
_CACHED = 2048
"""Bytes of a head that is worth remembering: streams of one engine all begin alike."""

_END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")

Fields = tuple[tuple[bytes, bytes], ...]


class BadResponse(Exception):
    """The engine's response is malformed; the message says how, and holds nothing of its content."""


class Framing(Enum):
    """How the end of the body is known."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


# Names of their own for who asks with each answer: Python 3.11 takes 0.1 µs to find a member by its class.
LENGTH, CHUNKED, CLOSE = Framing.LENGTH, Framing.CHUNKED, Framing.CLOSE


@dataclass(frozen=True, slots=True)
class Head:
    """`length` is in bytes, and 0 unless the framing is LENGTH. `persistent`: the connection may be used again.

    `content_type` is in small letters and without parameters.
    """

    status: int
    reason: bytes
    fields: Fields
    framing: Framing
    length: int
    persistent: bool
    content_type: bytes = b""


class HeadReader:
    """Finds the heads of answers, one after the other, in what comes; interim answers (1xx) are passed over.

    `switching`: the requests ask for another protocol, and 101 is an answer to them. `begun`: some of what is expected
    has come.
    """

    __slots__ = ("_held", "_interim", "_switching", "_to_head")

    def __init__(self, switching: bool = False) -> None:
        self._switching = switching
        self._held = b""
        self._interim = 0
        self._to_head = False

    @property
    def begun(self) -> bool:
        return bool(self._held or self._interim)

    def expect(self, to_head: bool) -> None:
        """A request was sent, which is HEAD or not."""
        self._held, self._interim, self._to_head = b"", 0, to_head

    def take(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and what came behind it; None while some of it is missing. Raises BadResponse."""
        self._held += data
        while (end := self._held.find(_END)) >= 0:
            size = end + len(_END)
            if size > MAX_HEAD:
                break
            head, rest = parse(self._held[:size], self._to_head), self._held[size:]
            if head.status >= 200 or (head.status == SWITCHING and self._switching):
                self._held = b""
                return head, rest
            self._pass_over(head, rest)
        if len(self._held) > MAX_HEAD:
            raise BadResponse(f"its head is larger than {MAX_HEAD} bytes")
        return None

    def _pass_over(self, head: Head, rest: bytes) -> None:
        self._interim += 1
        if head.status == SWITCHING or self._interim > MAX_INTERIM:
            raise BadResponse("it changes the protocol, or never comes")
        self._held = rest


def parse(head: bytes, to_head: bool) -> Head:
    """The head, empty line included, of the answer to a request that was HEAD or not. Raises BadResponse."""
    return _remembered(head, to_head) if len(head) <= _CACHED else _parse(head, to_head)


def _parse(head: bytes, to_head: bool) -> Head:
    line, *lines = head.split(b"\r\n")[:-2]
    status = _STATUS.fullmatch(line)
    if not status:
        raise BadResponse("its status line is malformed")
    if len(lines) > MAX_FIELDS:
        raise BadResponse(f"it has more than {MAX_FIELDS} header fields")
    fields = tuple(map(_field, lines))
    code, newest = int(status[2]), status[1] == b"1"
    framing, length = _framing(code, fields, newest, to_head)
    options = {option.strip().lower() for value in _all(fields, b"connection") for option in value.split(b",")}
    kept = b"close" not in options if newest else b"keep-alive" in options
    kind = next(iter(_all(fields, b"content-type")), b"").partition(b";")[0].strip().lower()
    return Head(code, status[3] or b"", fields, framing, length, kept and framing is not Framing.CLOSE, kind)


_remembered = lru_cache(maxsize=256)(_parse)


def _field(line: bytes) -> tuple[bytes, bytes]:
    match = _FIELD.fullmatch(line)
    if not match:
        raise BadResponse("a header field is malformed")
    return match[1], match[2].strip(b" \t")


def _framing(status: int, fields: Fields, newest: bool, to_head: bool) -> tuple[Framing, int]:
    codings, lengths = _all(fields, b"transfer-encoding"), _all(fields, b"content-length")
    if codings and (lengths or not newest or [coding.lower() for coding in codings] != [b"chunked"]):
        raise BadResponse("its transfer coding is another than chunked, or comes with a length")
    if len(set(lengths)) > 1 or not all(length.isdigit() and len(length) < 19 for length in lengths):
        raise BadResponse("its length is no number, or several")
    if to_head or status < 200 or status in (204, 304):
        return Framing.NONE, 0
    if codings:
        return Framing.CHUNKED, 0
    return (Framing.LENGTH, int(lengths[0])) if lengths else (Framing.CLOSE, 0)


def _all(fields: Fields, name: bytes) -> list[bytes]:
    return [value for field, value in fields if field.lower() == name]
