"""Requests that every reader of HTTP takes alike, told from all others by a narrow grammar.

Pure. What is plain is a small part of RFC 9112: what clients of an engine's routes send all day. Of everything else,
well-formed or not, nothing is said here, and nothing is refused: None means that others must look at it.
"""

import re

from llamaproxy.core.routing import ENDPOINTS

LONGEST_HEAD = 4096
LONGEST_BODY = 64 * 1024
"""In bytes. What is larger costs more than its reading."""
MOST_FIELDS = 64

Fields = tuple[tuple[bytes, bytes], ...]

_TARGETS = {f"POST {path} HTTP/1.1".encode(): path for path, found in ENDPOINTS.items() if "POST" in found.methods}
"""By request line: the engine's routes as their table spells them, without a query."""
_FIELDS = re.compile(rb"(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+: [!-~](?:[ -~]*[!-~])?)+")
_FIELD = re.compile(rb"\r\n([^:]+): ([^\r]+)")
_UNUSUAL = frozenset(
    {
        b"content-encoding",
        b"content-length",
        b"expect",
        b"proxy-connection",
        b"sec-websocket-key1",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""What has, or once had, a say in how a message is read."""


Frame = tuple[bytes, bytes, int]
"""The head of a request without its Content-Length, and so without what differs between one request of a client and the
next; what has come after it; how many bytes the body has."""


def frame(data: bytes) -> Frame | None:
    """What begins here, by its one Content-Length; whether the head is plain says `read`."""
    head, end, rest = data.partition(b"\r\n\r\n")
    before, found, after = head.partition(b"\r\nContent-Length: ")
    if not found:
        before, found, after = head.partition(b"\r\ncontent-length: ")
    digits, line_end, after = after.partition(b"\r\n")
    if not end or len(head) > LONGEST_HEAD or not digits.isdigit() or len(digits) > 5 or b"0" < digits < b"1":
        return None
    length = int(digits)
    return (before + line_end + after, rest, length) if length <= LONGEST_BODY else None


def read(head: bytes) -> tuple[str, Fields] | None:
    """Target and fields of the head of a frame. Its method is POST, and another request may follow."""
    line = head.partition(b"\r\n")[0]
    target = _TARGETS.get(line)
    if target is None or not _FIELDS.fullmatch(head, len(line)):
        return None
    fields = tuple(_FIELD.findall(head, len(line)))
    named = {name.lower(): value for name, value in fields}
    if len(fields) > MOST_FIELDS or len(named) < len(fields) or b"host" not in named or named.keys() & _UNUSUAL:
        return None
    goes_on = named.get(b"connection", b"keep-alive").lower() == b"keep-alive"
    return (target, fields) if goes_on else None
