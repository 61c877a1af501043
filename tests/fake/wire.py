"""HTTP/1.1 as cpp-httplib speaks it: bytes to requests, replies to bytes, keep-alive.

Owns one connection from accept to close, and the malformed replies. Must not know what a route or a model is.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl, urlsplit

JSON = "application/json; charset=utf-8"
_REQUESTS_PER_CONNECTION = 100  # and no more: llama-server closes then
_EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_MALFORMED = {
    "status": b"NONSENSE 2OO\r\n\r\n",
    "nul_header": b"HTTP/1.1 200 OK\r\nX-Nul: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "both_lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "early_close": b"HTTP/1.1 200 OK\r\nContent-Ty",
    "short_body": b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"choices":',
    "short_chunk": _EVENTS + b"9\r\ndata: 1\n\n\r\nFF\r\ndata: 2",
    "bad_chunk": _EVENTS + b"9\r\ndata: 1\n\n\r\nnone\r\ndata: 2\n\n\r\n0\r\n\r\n",
}


class BadRequest(Exception):
    """Bytes that are not a request; answered by 400 without a body."""


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""
    version: str = "HTTP/1.1"
    path: str = field(init=False)
    query: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.target)
        self.path, self.query = parts.path, dict(parse_qsl(parts.query))

    @property
    def keep_alive(self) -> bool:
        return self.version == "HTTP/1.1" and self.headers.get("connection", "").lower() != "close"


class Link(asyncio.StreamReaderProtocol):
    """A connection that notices at once when its client leaves, also while a request is served."""

    def __init__(self, handle: Callable[["Link"], Awaitable[None]], close_reused: bool) -> None:
        self.reader = asyncio.StreamReader(limit=1 << 16)
        super().__init__(self.reader, self._connected)
        self._handle = handle
        self._close_reused = close_reused
        self.served = 0
        self.lost_at: float | None = None
        self.on_lost: Callable[[], None] | None = None
        self.writer: asyncio.StreamWriter

    async def _connected(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        try:
            await self._handle(self)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    def data_received(self, data: bytes) -> None:
        if self._close_reused and self.served:
            self.writer.transport.abort()
        else:
            super().data_received(data)

    def eof_received(self) -> bool:
        super().eof_received()
        return False  # like llama-server, takes a half-closed connection for a closed one

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost_at = time.monotonic()
        if self.on_lost:
            self.on_lost()

    @property
    def lost(self) -> bool:
        return self.lost_at is not None

    async def next_request(self, keepalive: float) -> Request | None:
        """The next request, complete; None when the client left or idled for `keepalive` seconds."""
        try:
            async with asyncio.timeout(keepalive):
                head = await self.reader.readuntil(b"\r\n\r\n")
            request = _parse(head)
            if request.headers.get("expect", "").lower() == "100-continue":
                self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.body = await self._body(request.headers)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            return None
        except asyncio.LimitOverrunError as error:
            raise BadRequest from error
        return request

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "transfer-encoding" not in headers:
            return await self.reader.readexactly(_number(headers.get("content-length", "0"), 10))
        if "content-length" in headers or headers["transfer-encoding"].lower() != "chunked":
            raise BadRequest
        body = bytearray()
        while size := _number((await self.reader.readuntil(b"\r\n")).split(b";")[0].decode("latin-1"), 16):
            chunk = await self.reader.readexactly(size + 2)
            if not chunk.endswith(b"\r\n"):
                raise BadRequest
            body += chunk[:-2]
        while await self.reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return bytes(body)


def _number(text: str, base: int) -> int:
    try:
        return int(text, base)
    except ValueError as error:
        raise BadRequest from error


def _parse(head: bytes) -> Request:
    first, *rest = head[:-4].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest
    fields = [line.split(":", 1) for line in rest]
    if any(len(parts) != 2 for parts in fields):
        raise BadRequest
    headers = {name.lower(): value.strip() for name, value in cast(list[tuple[str, str]], fields)}
    return Request(words[0], words[1], headers, version=words[2])


class Reply:
    """The answer to one request; knows how far it has come."""

    def __init__(self, link: Link, request: Request) -> None:
        self._writer = link.writer
        self._origin = request.headers.get("origin", "")
        self._head_only = request.method == "HEAD"
        self.closing = not request.keep_alive or link.served + 1 >= _REQUESTS_PER_CONNECTION
        self.status = 0
        self.complete = False

    async def send(self, status: int, body: bytes, content_type: str, *extra: str) -> None:
        self.closing |= status >= 400
        head = self._head(status, f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *extra)
        await self._write(head if self._head_only else head + body)
        self.complete = True

    async def stream(self, data: bytes) -> None:
        """One chunk of an event stream; the first one brings the head."""
        head = b"" if self.status else self._stream_head()
        await self._write(b"%b%x\r\n%b\r\n" % (head, len(data), data))

    async def end_stream(self, data: bytes) -> None:
        await self._write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        self.complete = True

    def ping(self, give_up: bool) -> None:
        """Keeps a silent stream alive; after SIGTERM llama-server ends it instead, without the last chunk."""
        if give_up:
            self._writer.close()
        else:
            self._writer.write((b"" if self.status else self._stream_head()) + b"3\r\n:\n\n\r\n")

    async def malformed(self, kind: str) -> None:
        self.closing = True
        if kind == "slow_header":
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"s" * 600:
                await self._write(bytes([byte]))
                await asyncio.sleep(1)
        else:
            await self._write(_MALFORMED[kind])

    def _stream_head(self) -> bytes:
        kind = ("X-Accel-Buffering: no", "Content-Type: text/event-stream", "Transfer-Encoding: chunked")
        return self._head(200, *kind)

    def _head(self, status: int, *fields: str) -> bytes:
        self.status = status
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "Server: llama.cpp"]
        lines += [f"Access-Control-Allow-Origin: {self._origin}", f"X-Fake-Pid: {os.getpid()}", *fields]
        lines += ["Connection: close" if self.closing else "Keep-Alive: timeout=5, max=100", "\r\n"]
        return "\r\n".join(lines).encode("latin-1")

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()
