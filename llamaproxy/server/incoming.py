"""A request as it came in, and where it is meant to go.

Owns what of a request aiohttp does not keep, and the two forms of targets that become a plain path: an absolute one,
and one below the prefix of a proxy in front. What is refused is `inbound`'s to decide.
"""

import asyncio
from typing import Any, cast

from aiohttp import HttpVersion, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDictProxy
from yarl import URL

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Request(web.Request):
    """A request whose client may wait for a word before it sends the body."""

    # What aiohttp makes properties of costs ten times as much whenever somebody asks.
    __slots__ = ("headers", "method", "raw_headers", "raw_path", "rel_url", "version")
    headers: CIMultiDictProxy[str]
    method: str
    raw_headers: tuple[tuple[bytes, bytes], ...]
    raw_path: str
    rel_url: URL
    version: HttpVersion

    ATTRS = web.Request.ATTRS | {"caller", "known_as", "long", "waits", "whole", *__slots__}
    long = False
    """Whether it came in so many bytes that one of its fields may be too long."""
    waits = False
    whole: bytes | None = None
    """The body, where it had come before anybody asked for it."""
    caller: Any = None
    """Whose request it is, as `quota` says."""
    known_as: str | None = None
    """Its id, once `stamp` was asked for it."""

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: Any,
        writer: AbstractStreamWriter,
        task: Any,
        loop: asyncio.AbstractEventLoop,
        **changes: Any,
    ) -> None:
        # By name, and each part by its place: a list of parts costs as much as all the lines below.
        web.Request.__init__(self, message, payload, protocol, writer, task, loop, **changes)
        self.method, self.raw_path, self.version = message.method, message.path, message.version
        self.headers, self.raw_headers, self.rel_url = message.headers, message.raw_headers, super().rel_url

    @property
    def content(self) -> StreamReader:
        """The body. Who asks for it wants it, so that a client that expects to be asked for it is."""
        if self.waits:
            self.waits = False
            if self.transport and not (self.complete or self.unread.total_bytes):
                self.transport.write(_CONTINUE)
        return super().content

    @property
    def unread(self) -> StreamReader:
        """The same, for those who only look."""
        return super().content

    def hand_over(self, receiver: Any) -> None:
        """From now on all that the client says goes to `receiver.feed_data`, and its end to `feed_eof`."""
        cast(Any, self.protocol).hand_over(receiver)

    async def read(self) -> bytes:
        return await super().read() if self.whole is None else self.whole

    def clone(self, **changes: Any) -> "Request":
        clone = cast(Request, super().clone(**changes))
        clone.waits, clone.whole, clone.caller, clone.known_as = self.waits, self.whole, self.caller, self.known_as
        return clone

    @property
    def complete(self) -> bool:
        """Whether all of it has arrived, read or not."""
        return super().content.is_eof()


def to_origin_form(request: Request) -> Request:
    """The authority of an absolute target takes the place of Host (RFC 9112, section 3.2.2)."""
    headers = request.headers.copy()
    headers[hdrs.HOST] = request.raw_path.split("/", 3)[2].partition("?")[0]
    url = request.rel_url
    rooted = url if url.raw_path else url.with_path("/", keep_query=True)
    return request.clone(rel_url=rooted, headers=headers)


def without(prefix: str, request: Request) -> Request:
    """As a proxy that takes its prefix away sends it."""
    url = request.rel_url
    if not url.raw_path.startswith(f"{prefix}/"):
        return request
    # What begins with // would be taken for a host.
    path, query = f"/{url.raw_path.removeprefix(prefix).lstrip('/')}", url.raw_query_string
    return request.clone(rel_url=URL(f"{path}?{query}" if query else path, encoded=True))
