"""The load generator against the fake engine, and against servers that do not keep their word."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench.engine import KeepAlive, serve
from bench.fire import MOST_FAILURES, Campaign, Tally, quantile, run, shot

HEAD = b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"


def answer(status: bytes, body: bytes) -> bytes:
    return HEAD % (status, len(body), body)


@asynccontextmanager
async def engine(keep_alive: KeepAlive | None = None) -> AsyncIterator[int]:
    server = await serve("127.0.0.1", 0, keep_alive or KeepAlive(0, 0))
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def saying(*words: bytes) -> AsyncIterator[int]:
    """Answers each connection's only request with the next of these, the last one for ever, and closes."""
    left = list(words)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def fire(
    port: int, connections: int, requests: int, chunks: int = 0, pace: int = 0, timeout: float = 20
) -> Tally:
    campaign = Campaign(shot(None, chunks, pace), requests, None)
    await run(campaign, "127.0.0.1", port, connections, timeout)
    return campaign.tally


async def test_as_many_requests_as_were_ordered() -> None:
    async with engine() as port:
        tally = await fire(port, connections=4, requests=50)
    assert (tally.requests, tally.failures, tally.short) == (50, 0, 0)


async def test_every_event_of_a_stream_is_counted() -> None:
    async with engine() as port:
        tally = await fire(port, connections=3, requests=6, chunks=40)
    assert (tally.requests, tally.events, tally.failures, tally.short) == (6, 6 * 42, 0, 0)


async def test_a_server_that_closes_is_connected_to_again() -> None:
    async with engine(KeepAlive(idle=5, requests=3)) as port:
        tally = await fire(port, connections=2, requests=20)
    assert (tally.requests, tally.failures) == (20, 0)


async def test_the_first_request_of_a_connection_is_not_timed() -> None:
    async with engine() as port:
        tally = await fire(port, connections=4, requests=50)
    assert (tally.begun, len(tally.first_bytes)) == (50, 46)


@pytest.mark.parametrize(
    "words",
    [
        answer(b"500 Error", b'{"usage":1}'),
        answer(b"200 OK", b'{"usage":1}')[:-1],
        b"no HTTP at all\r\n\r\n",
        b"",
    ],
)
async def test_an_answer_that_is_not_whole_and_good_has_failed(words: bytes) -> None:
    async with saying(words, answer(b"200 OK", b'{"usage":1}')) as port:
        tally = await fire(port, connections=1, requests=3)
    assert (tally.requests, tally.failures, tally.short) == (3, 1, 0)


async def test_an_answer_that_ends_well_and_lacks_something_is_short() -> None:
    async with saying(answer(b"200 OK", b"{}"), answer(b"200 OK", b'{"usage":1}')) as port:
        tally = await fire(port, connections=1, requests=3)
    assert (tally.requests, tally.failures, tally.short) == (3, 0, 1)


async def test_a_stream_that_lacks_an_event_is_short() -> None:
    async with saying(answer(b"200 OK", b"data: 1\n\ndata: [DONE]\n\n")) as port:
        tally = await fire(port, connections=1, requests=1, chunks=1)
    assert (tally.failures, tally.short) == (0, 1)


async def test_what_is_not_answered_in_time_has_failed() -> None:
    async with engine() as port:
        tally = await fire(port, connections=3, requests=3, chunks=2, pace=60_000, timeout=0.05)
    assert (tally.requests, tally.failures) == (3, 3)


async def test_a_server_that_only_fails_is_given_up() -> None:
    async with saying(b"") as port:
        tally = await fire(port, connections=2, requests=10 * MOST_FAILURES)
    assert MOST_FAILURES <= tally.failures <= MOST_FAILURES + 2


async def test_connections_may_begin_one_after_the_other() -> None:
    """The second is due after 100 s."""
    async with engine() as port:
        campaign = Campaign(shot(None, chunks=2, pace_ms=60_000), 4, None, spread=400.0)
        await run(campaign, "127.0.0.1", port, connections=4, timeout=0.3)
    assert campaign.tally.begun == 1


def test_quantiles() -> None:
    values = [float(value) for value in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile([3.0], 0.99), quantile([], 0.5)) == (50, 99, 3, 0)
