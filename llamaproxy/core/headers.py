"""Which header fields pass a gateway, in each direction.

RFC 9110 section 7.6.1: hop-by-hop fields, and those named by Connection, end here. Beyond that the gateway keeps
its clients' credentials to itself, and the engine's opinion about web origins: both are the gateway's business. What
a backend says is not trusted: nothing that would speak to a browser for the gateway's own origin passes.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache

from llamaproxy.core.response import Fields, Head

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# Content-Length is rebuilt from the body, which was decoded while it was read; Expect was answered by us.
# X-Conversation-Id makes llama-server go on
# generating for a client that has left.
_NOT_TO_ENGINE = _HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"content-encoding",
    b"expect",
    b"authorization",
    b"x-api-key",
    b"cookie",
    b"origin",
    b"referer",
    b"x-request-id",
    b"x-conversation-id",
}
_NOT_TO_ENGINE_THAT_IS_READ = _NOT_TO_ENGINE | {b"accept-encoding"}
_NOT_TO_CLIENT = _HOP_BY_HOP | {
    b"x-request-id",
    b"server",
    b"set-cookie",
    b"clear-site-data",
    b"strict-transport-security",
    b"alt-svc",
    b"www-authenticate",
}


_REPEATED = 24
"""Fields that are worth remembering."""

_OUR_OWN = (b"access-control-", b"x-llamaproxy-", b"x-ratelimit-")
"""Beginnings of names that only the gateway's own fields have for its clients; a backend may be a gateway, too."""


def to_engine(raw: Fields, read: bool = False) -> bytes:
    """The client's fields that the engine gets, as lines. An answer that is `read` must not be compressed."""
    return _remembered_lines(raw, read) if len(raw) <= _REPEATED else _lines(raw, read)


def _lines(raw: Fields, read: bool) -> bytes:
    ending_here = _NOT_TO_ENGINE_THAT_IS_READ if read else _NOT_TO_ENGINE
    return b"".join(b"%b: %b\r\n" % field for field in _passing(raw, ending_here))


_remembered_lines = lru_cache(maxsize=64)(_lines)
"""Clients repeat themselves. Few enough for the longest fields to take no more than some megabytes."""


def lines(fields: Mapping[str, str]) -> bytes:
    """Header fields as they are written; the caller knows that nothing in them ends a line."""
    return "".join([f"{name}: {value}\r\n" for name, value in fields.items()]).encode()


def answer_head(head: Head, own: bytes, chunked: bool, goes_on: bool) -> bytes:
    """The head of an answer for an HTTP/1.1 client, with the engine's fields that it gets and our own lines."""
    coding = b"Transfer-Encoding: chunked\r\n" if chunked else b""
    end = b"\r\n" if goes_on else b"Connection: close\r\n\r\n"
    return b"%b%b%b%b" % (_status_and_fields(head.status, head.reason, head.fields), own, coding, end)


@lru_cache(maxsize=256)
def _status_and_fields(status: int, reason: bytes, fields: Fields) -> bytes:
    """Answers of an engine are alike, but for their length."""
    kept = [b"%b: %b\r\n" % (name, value) for name, value in to_client(fields) if name.lower() != b"content-length"]
    lengths = {value for name, value in fields if name.lower() == b"content-length"} if status != 204 else set()
    kept += [b"Content-Length: %b\r\n" % value for value in lengths]
    return b"HTTP/1.1 %d %b\r\n%b" % (status, reason, b"".join(kept))


def to_client(raw: Fields) -> list[tuple[bytes, bytes]]:
    """The engine's fields that the client gets, Content-Length among them."""
    return [(name, value) for name, value in _passing(raw, _NOT_TO_CLIENT) if not name.lower().startswith(_OUR_OWN)]


def _passing(raw: Fields, dropped: frozenset[bytes]) -> Iterator[tuple[bytes, bytes]]:
    named = {
        token.strip().lower() for name, value in raw if name.lower() == b"connection" for token in value.split(b",")
    }
    for name, value in raw:
        if (lowered := name.lower()) not in dropped and lowered not in named:
            yield name, value
