"""How an engine's body goes on to the client: as it comes, or framed in another way.

Pure. Owns nothing but the framing between the two. Which one is needed follows from how the engine frames its answer
and what the client can read.
"""

from typing import Protocol

from llamaproxy.core.framing import ChunkedBody, chunk
from llamaproxy.core.response import Framing

_LAST_CHUNK = b"0\r\n\r\n"


class Outlet(Protocol):
    def through(self, data: bytes) -> bytes:
        """What the client gets for this piece of the engine's body."""

    def insert(self, content: bytes) -> bytes:
        """What makes `content` the next thing that the client reads, where the body broke off; or nothing."""

    def end(self) -> bytes:
        """What the client needs to see the end."""


def outlet(framing: Framing, to_chunks: bool, to_close: bool) -> Outlet:
    """`to_chunks`: the client was promised chunks; `to_close`: it can read nothing but content up to a close."""
    if to_close and framing is Framing.CHUNKED:
        return Unchunked()
    if to_chunks and framing is not Framing.CHUNKED:
        return Rechunked()
    return AsChunked() if framing is Framing.CHUNKED else AsIs()


class AsIs:
    """Content of a length that was told, or up to a close. Nothing can be added to the one."""

    def through(self, data: bytes) -> bytes:
        return data

    def insert(self, content: bytes) -> bytes:
        return content

    def end(self) -> bytes:
        return b""


class AsChunked(AsIs):
    """The engine's chunks, followed so that it is known where one may be added."""

    def __init__(self) -> None:
        self._body = ChunkedBody()

    def through(self, data: bytes) -> bytes:
        self._body.feed(data)
        return data

    def insert(self, content: bytes) -> bytes:
        return self._body.insert(content)


class Unchunked(AsIs):
    """The engine's chunks for a client that knows none."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._body = ChunkedBody(self._parts.append)

    def through(self, data: bytes) -> bytes:
        self._body.feed(data)
        content = b"".join(self._parts)
        self._parts.clear()
        return content


class Rechunked:
    """Content without chunks for a client that was promised some."""

    def through(self, data: bytes) -> bytes:
        return chunk(data) if data else b""

    def insert(self, content: bytes) -> bytes:
        return chunk(content)

    def end(self) -> bytes:
        return _LAST_CHUNK
