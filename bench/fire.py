"""A load generator as a process of its own: `python -m bench.fire MODE --port PORT ...` prints one line of JSON.

Owns the client's side of the wire, on protocols of its own, so that it takes less of the machine than what it asks.
Every answer is read to its end: one that breaks off, or has another status than 200, is a failure; one that ends as it
should and lacks something is short. It decides nothing about who is asked, and measures nothing but time and counts.
"""

import argparse
import asyncio
import contextlib
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop

from bench.answer import Answer, BadAnswer

MOST_FAILURES = 200
"""After so many, more of them say nothing new."""
_OPENING = 64
"""Connections that are opened at once."""
_PATIENCE = 30.0
"""Seconds that what has begun may take beyond the time that was asked for."""

_DONE = b"[DONE]"
_USAGE = b'"usage"'


@dataclass(slots=True)
class Tally:
    """What came of all requests. `begun` are those of which a byte has come.

    `first_bytes` in seconds since each was sent, without the first one of each connection: those come all at once.
    """

    begun: int = 0
    requests: int = 0
    failures: int = 0
    short: int = 0
    events: int = 0
    first_bytes: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def report(self) -> dict[str, float]:
        return {
            "requests": self.requests,
            "failures": self.failures,
            "short": self.short,
            "events": self.events,
            "seconds": round(self.seconds, 4),
            "first_byte_p50_us": round(quantile(self.first_bytes, 0.5) * 1e6, 1),
            "first_byte_p99_us": round(quantile(self.first_bytes, 0.99) * 1e6, 1),
        }


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed; 0 where there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


@dataclass(frozen=True, slots=True)
class Shot:
    """One request, and what belongs to its answer: `events` at least, and `marker` near its end."""

    request: bytes
    events: int
    marker: bytes

    def hit(self, answer: Answer) -> bool:
        return answer.events >= self.events and self.marker in answer.tail


def shot(key: str | None, chunks: int = 0, pace_ms: int = 0, size: int = 0) -> Shot:
    """A chat request: unary without `chunks`; `size` is that of its prompt in bytes."""
    prompt = "What is the Vänern? " + "x" * size
    fields = {"model": "m", "stream": chunks > 0, "max_tokens": chunks or 16, "pace_ms": pace_ms}
    body = json.dumps({**fields, "messages": [{"role": "user", "content": prompt}]}).encode()
    secret = f"Authorization: Bearer {key}\r\n" if key else ""
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nUser-Agent: bench\r\n"
        f"Content-Type: application/json\r\n{secret}Content-Length: {len(body)}\r\n\r\n"
    )
    return Shot(head.encode() + body, chunks and chunks + 2, _DONE if chunks else _USAGE)


class Campaign:
    """Which requests are still to be sent: `requests` of them, or as many as begin within `seconds`.

    Connections begin one after the other over `spread` seconds, so that they do not ask in step for ever after.
    """

    def __init__(self, shot: Shot, requests: int | None, seconds: float | None, spread: float = 0.0) -> None:
        self.shot = shot
        self.spread = spread
        self.tally = Tally()
        self.all_begun = asyncio.Event()
        self._left = requests
        self._until = time.perf_counter() + seconds if seconds else math.inf
        self._all = requests

    @property
    def open(self) -> bool:
        """Whether there is one more to be sent."""
        return self._left != 0 and time.perf_counter() < self._until and self.tally.failures < MOST_FAILURES

    def take(self) -> bool:
        """Whether there was one more, which is now the caller's to send."""
        if not self.open:
            return False
        if self._left is not None:
            self._left -= 1
        return True

    def begun(self) -> None:
        self.tally.begun += 1
        if self.tally.begun == self._all:
            self.all_begun.set()

    def ended(self, answer: Answer) -> None:
        tally = self.tally
        tally.requests += 1
        tally.events += answer.events
        if not answer.ended or answer.status != 200:
            tally.failures += 1
        elif not self.shot.hit(answer):
            tally.short += 1


class Client(asyncio.Protocol):
    """One connection in a closed loop. `first` is done with the first byte, `over` when the connection is lost."""

    _transport: asyncio.Transport

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._answer: Answer | None = None
        self._sent_at = 0.0
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, and not the base class.
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            return self._transport.abort()
        if not answer.begun:
            self._begin(answer)
        try:
            answer.feed(data)
        except BadAnswer:
            return self._transport.abort()
        if answer.ended:
            self._finish(answer)
            if answer.closes:
                self._transport.close()
            else:
                self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if answer := self._answer:
            answer.closed()
            self._finish(answer)
        self._done(self.first)
        self._done(self.over)

    def give_up(self) -> None:
        """What is not answered yet has failed."""
        self._transport.abort()
        self.connection_lost(None)

    def _ask(self) -> None:
        if self._campaign.take():
            self._answer = Answer()
            self._sent_at = time.perf_counter()
            self._transport.write(self._campaign.shot.request)
        else:
            self._transport.close()

    def _begin(self, answer: Answer) -> None:
        answer.begun = True
        if self.first.done():
            self._campaign.tally.first_bytes.append(time.perf_counter() - self._sent_at)
        self._campaign.begun()
        self._done(self.first)

    def _finish(self, answer: Answer) -> None:
        self._answer = None
        self._campaign.ended(answer)

    def _done(self, future: asyncio.Future[None]) -> None:
        if not future.done():
            future.set_result(None)


async def run(campaign: Campaign, host: str, port: int, connections: int, timeout: float) -> None:
    """Until all is answered, or `timeout` seconds have passed: what is open then has failed."""
    clients: set[Client] = set()
    try:
        async with asyncio.timeout(timeout):
            await _ask_all(campaign, host, port, connections, clients)
    except TimeoutError:
        print(f"not all was answered within {timeout:.0f} s", file=sys.stderr)
        for client in clients:
            client.give_up()


async def hold(campaign: Campaign, host: str, port: int, connections: int, timeout: float) -> None:
    """Leave streams open until standard input ends; says on standard output how many have begun.

    Those that are open at the end are neither failures nor answers.
    """
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(_ask_all(campaign, host, port, connections, set()))
        await asyncio.wait({group.create_task(_within(timeout, campaign.all_begun))})
        print(json.dumps({"open": campaign.tally.begun}), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        asking.cancel()


async def _within(seconds: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def _ask_all(campaign: Campaign, host: str, port: int, connections: int, clients: set[Client]) -> None:
    opening = asyncio.Semaphore(_OPENING)
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            after = campaign.spread * number / connections
            group.create_task(_keep_asking(campaign, host, port, after, opening, clients))


async def _keep_asking(
    campaign: Campaign, host: str, port: int, after: float, opening: asyncio.Semaphore, clients: set[Client]
) -> None:
    """On one connection, or the next one where it is closed, from `after` seconds on."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(after)
    while campaign.open:
        async with opening:
            try:
                _, client = await loop.create_connection(lambda: Client(campaign), host, port)
            except OSError:
                campaign.tally.failures += 1
                continue
            clients.add(client)
            await client.first
        await client.over
        clients.discard(client)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a load generator for measurements")
    parser.add_argument("mode", choices=("ask", "hold"), help="ask in closed loops, or hold streams open")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, help="begin requests for so long")
    parser.add_argument("--requests", type=int, help="begin so many requests")
    parser.add_argument("--spread", type=float, default=0.0, help="seconds over which the connections begin")
    parser.add_argument("--chunks", type=int, default=0, help="tokens of each stream; 0: no streams")
    parser.add_argument("--pace", type=int, default=0, help="milliseconds between tokens; 0: full speed")
    parser.add_argument("--size", type=int, default=0, help="bytes of prompt")
    parser.add_argument("--key", help="API key")
    arguments = parser.parse_args(argv)
    if arguments.seconds is None and arguments.requests is None:
        arguments.requests = arguments.connections
    return arguments


async def _main(arguments: argparse.Namespace) -> Tally:
    ask = shot(arguments.key, arguments.chunks, arguments.pace, arguments.size)
    campaign = Campaign(ask, arguments.requests, arguments.seconds, arguments.spread)
    expected = (arguments.seconds or 0) + arguments.chunks * arguments.pace / 1000
    way = hold if arguments.mode == "hold" else run
    timeout = _PATIENCE if arguments.mode == "hold" else expected + _PATIENCE
    begun = time.perf_counter()
    await way(campaign, arguments.host, arguments.port, arguments.connections, timeout)
    campaign.tally.seconds = time.perf_counter() - begun
    return campaign.tally


def main(argv: Sequence[str] | None = None) -> None:
    print(json.dumps(uvloop.run(_main(_arguments(argv))).report()))


if __name__ == "__main__":
    main()
