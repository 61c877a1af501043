"""How an engine's body goes on to the client: as it comes, or framed in another way.

Pure. Owns nothing but the framing between the two. Which one is needed follows from how the engine frames its answer
and what the client can read.
"""

from typing import Protocol

from llamaproxy.core.framing import chunk
from llamaproxy.core.response import CHUNKED, CLOSE, LENGTH, Framing
from llamaproxy.core.stripping import TimingsStripper, Unasked, stripper

_LAST_CHUNK = b"0\r\n\r\n"


class Outlet(Protocol):
    def through(self, data: bytes) -> bytes:
        """What the client gets for this piece of the content; `AsIs` is given the body as it comes."""

    def insert(self, content: bytes) -> bytes:
        """What makes `content` the next thing that the client reads, where the body broke off; or nothing."""

    def end(self) -> bytes:
        """What the client needs to see the end."""


def outlet(framing: Framing, to_chunks: bool, to_close: bool, unasked: Unasked | None = None) -> Outlet:
    """`to_chunks`: the client was promised chunks; `to_close`: it can read nothing but content up to a close.

    `unasked`: a stream has what its client must not see. One with a length keeps it.
    """
    if unasked and framing is not LENGTH:
        return Stripped(unasked, to_chunks=not to_close and (to_chunks or framing is CHUNKED))
    if to_close and framing is CHUNKED:
        return Content()
    if to_chunks and framing is not CHUNKED:
        return Rechunked()
    return AsIs(open_end=framing is CLOSE or to_close)


class AsIs:
    """Whatever it is. Something can be added to content with an open end only; where chunks may be broken into, the
    connection knows that they come from."""

    def __init__(self, open_end: bool = True) -> None:
        self._open_end = open_end

    def through(self, data: bytes) -> bytes:
        return data

    def insert(self, content: bytes) -> bytes:
        return content if self._open_end else b""

    def end(self) -> bytes:
        return b""


class Content:
    """What the engine's chunks hold, for a client that knows none."""

    def through(self, data: bytes) -> bytes:
        return data

    def insert(self, content: bytes) -> bytes:
        return content

    def end(self) -> bytes:
        return b""


class Rechunked:
    """Content without chunks for a client that was promised some."""

    def through(self, data: bytes) -> bytes:
        return chunk(data) if data else b""

    def insert(self, content: bytes) -> bytes:
        return chunk(content)

    def end(self) -> bytes:
        return _LAST_CHUNK


class Stripped:
    """A stream without the counts that only the gateway asked for."""

    def __init__(self, unasked: Unasked, to_chunks: bool) -> None:
        self._stripper = stripper(unasked)
        self._strip = self._stripper.through
        self._to_chunks = to_chunks

    def through(self, data: bytes) -> bytes:
        left = self._strip(data)
        return chunk(left) if left and self._to_chunks else left

    def insert(self, content: bytes) -> bytes:
        return self._framed(self._stripper.rest() + content)

    def end(self) -> bytes:
        return self._framed(self._stripper.rest()) + (_LAST_CHUNK if self._to_chunks else b"")

    @property
    def timings(self) -> TimingsStripper | None:
        """What takes them out on the way from chunks to chunks."""
        return self._stripper if self._to_chunks and isinstance(self._stripper, TimingsStripper) else None

    def _framed(self, content: bytes) -> bytes:
        return chunk(content) if content and self._to_chunks else content
