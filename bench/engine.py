"""A llama-server that costs next to nothing, so that what stands before it can be measured: `python -m bench.engine`.

Owns what goes over the wire: HTTP/1.1 as llama-server speaks it, one unary answer, and streams whose length and pace
the request tells (`max_tokens` chunks, `pace_ms` apart, 0 for as fast as it goes). Loads nothing, and passes over the
options of llama-server that it does not know. Imports nothing of the gateway, which runs it as a program.
"""

import argparse
import asyncio
import itertools
import json
import os
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import uvloop

MAX_HEAD = 64 * 1024
MAX_CHUNKS = 1_000_000
MAX_PACE_MS = 3_600_000
_LOOKED_AT = 4096
"""Bytes at either end of a body in which its settings are looked for: a large one is a long prompt between them."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,12})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_TOKENS = re.compile(rb'"max_tokens"\s*:\s*(\d{1,9})')
_TIMED = re.compile(rb'"timings_per_token"\s*:\s*true')
_PACE = re.compile(rb'"pace_ms"\s*:\s*(\d{1,9})')

_GOLDEN = 0.6180339887
"""Multiples of it, modulo 1, spread evenly however many there are."""

_COMMON = {
    "created": 1_700_000_000,
    "id": "chatcmpl-0KqvZ8mS3nXrT5yB1cDfGhJk2LpW4uE7",
    "model": "m",
    "system_fingerprint": "b0-bench",
}
_TIMINGS = {"cache_n": 0, "prompt_n": 12, "prompt_ms": 41.2, "predicted_n": 16, "predicted_ms": 230.5}
_SPEEDS = {
    "prompt_per_token_ms": 3.4333333333333336,
    "prompt_per_second": 291.2621359223301,
    "predicted_per_token_ms": 14.40625,
    "predicted_per_second": 69.41431670281996,
}
_USAGE = {"completion_tokens": 16, "prompt_tokens": 12, "total_tokens": 28}


def _json(kind: str, choice: object, **counts: object) -> bytes:
    """Its members in the order in which llama-server has them."""
    members = {"choices": [choice], **_COMMON, "object": kind, **counts}
    return json.dumps(members, separators=(",", ":")).encode()


def _chunk(data: bytes) -> bytes:
    """One event of a stream as one chunk of the chunked coding, which is how llama-server sends them."""
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _delta(reason: str | None, **counts: object) -> bytes:
    choice = {"finish_reason": reason, "index": 0, "delta": {} if reason else {"content": " token"}}
    return _json("chat.completion.chunk", choice, **counts)


UNARY = _json(
    "chat.completion",
    {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": "It is a lake."}},
    usage=_USAGE,
    timings=_TIMINGS,
)
TOKEN = _chunk(_delta(None))
TIMED_TOKEN = _chunk(_delta(None, timings={**_TIMINGS, **_SPEEDS}))
"""With `timings_per_token`: as many members as llama-server b11434 sends."""
LAST = _chunk(_delta("stop", usage=_USAGE, timings=_TIMINGS)) + _chunk(b"[DONE]") + b"0\r\n\r\n"


@dataclass(frozen=True)
class KeepAlive:
    """When connections are closed: after `idle` seconds of rest, or `requests` requests. 0: never."""

    idle: float = 5.0
    requests: int = 100

    @cached_property
    def field(self) -> bytes:
        promised = f"timeout={self.idle:.0f}, max={self.requests}"
        return f"Keep-Alive: {promised}\r\n".encode() if self.idle and self.requests else b""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a body asks for; `pace` in seconds, `token` is what is sent for each."""

    stream: bool
    chunks: int
    pace: float
    token: bytes = TOKEN

    @classmethod
    def of(cls, body: bytes | bytearray) -> "Wish":
        ends = bytes(body) if len(body) <= 2 * _LOOKED_AT else bytes(body[:_LOOKED_AT] + body[-_LOOKED_AT:])
        if not _STREAM.search(ends):
            return _UNARY
        chunks, pace = _number(_TOKENS, ends, 16, MAX_CHUNKS), _number(_PACE, ends, 0, MAX_PACE_MS)
        return cls(True, max(1, chunks), pace / 1000, TIMED_TOKEN if _TIMED.search(ends) else TOKEN)


_UNARY = Wish(False, 0, 0.0)


def _number(pattern: re.Pattern[bytes], text: bytes, default: int, most: int) -> int:
    found = pattern.search(text)
    return min(most, int(found[1])) if found else default


class Stream:
    """The chunks of one answer; `ended` is called after the last one.

    The wait for the second chunk differs from stream to stream, so that many that begin together do not go on in step.
    """

    _begun = itertools.count()

    def __init__(self, transport: asyncio.Transport, wish: Wish, ended: Callable[[], None]) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._pace = wish.pace
        self._left = wish.chunks
        self._token = wish.token
        self._ended = ended
        self._due = self._loop.time() + wish.pace * (next(self._begun) * _GOLDEN % 1.0 - 1.0)
        self._timer: asyncio.Handle | None = None
        self._paused = False

    def begin(self, head: bytes) -> None:
        self._transport.write(head + self._token)
        self._left -= 1
        self._schedule()

    def pause(self) -> None:
        self._paused = True
        self.stop()

    def go_on(self) -> None:
        self._paused = False
        self._schedule()

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        if self._paused or self._timer:
            return
        if self._pace:
            self._due += self._pace
            self._timer = self._loop.call_at(self._due, self._send)
        else:
            self._timer = self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._timer = None
        if self._left:
            self._left -= 1
            self._transport.write(self._token)
            self._schedule()
        else:
            self._transport.write(LAST)
            self._ended()


class Connection(asyncio.Protocol):
    """One client: requests one after the other, each answered before the next is looked at."""

    _transport: asyncio.Transport

    def __init__(self, keep_alive: KeepAlive) -> None:
        self._keep_alive = keep_alive
        self._received = bytearray()
        self._answered = 0
        self._stream: Stream | None = None
        self._closing = False
        self._rest: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, and not the base class.
        self._transport = cast(asyncio.Transport, transport)
        self._wait()

    def connection_lost(self, error: Exception | None) -> None:
        if self._rest:
            self._rest.cancel()
        if self._stream:
            self._stream.stop()

    def pause_writing(self) -> None:
        if self._stream:
            self._stream.pause()

    def resume_writing(self) -> None:
        if self._stream:
            self._stream.go_on()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while not self._stream and not self._closing and self._next():
            pass

    def _next(self) -> bool:
        """Answer the first request that is here; False where none is whole."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            if len(self._received) > MAX_HEAD:
                self._refuse(b"431 Request Header Fields Too Large")
            return False
        head = bytes(self._received[: end + 2])
        if _CHUNKED.search(head):
            self._refuse(b"411 Length Required")
            return False
        found = _LENGTH.search(head)
        whole = end + 4 + (int(found[1]) if found else 0)
        if len(self._received) < whole:
            return False
        body = self._received[end + 4 : whole]
        del self._received[:whole]
        self._answer(head, body)
        return True

    def _answer(self, head: bytes, body: bytearray) -> None:
        if self._rest:
            self._rest.cancel()
            self._rest = None
        self._answered += 1
        self._closing = self._answered == self._keep_alive.requests or bool(_CLOSE.search(head))
        method, path, *_ = head.split(b" ", 2)
        if method == b"POST":
            self._complete(Wish.of(body))
        else:
            self._whole(*_PAGES.get(path, (b"404 Not Found", b"{}")))

    def _complete(self, wish: Wish) -> None:
        if not wish.stream:
            return self._whole(b"200 OK", UNARY)
        self._stream = Stream(self._transport, wish, self._stream_ended)
        self._stream.begin(self._head(b"200 OK", b"text/event-stream", b"Transfer-Encoding: chunked"))

    def _stream_ended(self) -> None:
        self._stream = None
        self._wait()
        self.data_received(b"")

    def _whole(self, status: bytes, body: bytes) -> None:
        length = b"Content-Length: %d" % len(body)
        self._transport.write(self._head(status, b"application/json; charset=utf-8", length) + body)
        self._wait()

    def _refuse(self, status: bytes) -> None:
        self._closing = True
        self._whole(status, b"{}")

    def _head(self, status: bytes, kind: bytes, framing: bytes) -> bytes:
        connection = b"Connection: close\r\n" if self._closing else self._keep_alive.field
        return (
            b"HTTP/1.1 %b\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\nContent-Type: %b\r\n%b\r\n%b\r\n"
            % (status, kind, framing, connection)
        )

    def _wait(self) -> None:
        """For the next request, unless there shall be none."""
        if self._closing:
            self._transport.close()
        elif self._keep_alive.idle:
            self._rest = asyncio.get_running_loop().call_later(self._keep_alive.idle, self._transport.close)


_PAGES = {b"/health": (b"200 OK", b'{"status":"ok"}'), b"/slots": (b"200 OK", b"[]"), b"/props": (b"200 OK", b"{}")}


async def serve(host: str, port: int, keep_alive: KeepAlive) -> asyncio.Server:
    """Listen on a Unix socket where `host` is a path, as llama-server does, and else on TCP."""
    loop = asyncio.get_running_loop()
    if host.startswith("/"):
        return await loop.create_unix_server(lambda: Connection(keep_alive), host, backlog=4096)
    return await loop.create_server(lambda: Connection(keep_alive), host, port, backlog=4096)


async def _run(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    server = await serve(arguments.host, arguments.port, KeepAlive(arguments.idle_close, arguments.most_requests))
    await stopped.wait()
    server.close()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="a fake llama-server for measurements", allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1", help="address, or the path of a Unix socket")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--idle-close", type=float, default=5.0, help="seconds of rest before a close; 0: never")
    parser.add_argument("--most-requests", type=int, default=100, help="requests of one connection; 0: no limit")
    parser.add_argument("--cpus", help="the CPUs to run on, as 0,1")
    arguments, _ = parser.parse_known_args(argv)
    if arguments.cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(map(int, arguments.cpus.split(","))))
    uvloop.run(_run(arguments))


if __name__ == "__main__":
    main()
