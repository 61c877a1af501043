"""One answer on its way, against an engine that sends exactly the bytes a test wants."""

import asyncio

import aiohttp
import pytest

from llamaproxy.core.routing import Dialect
from llamaproxy.core.stripping import Unasked
from llamaproxy.core.usage import StreamMeter
from llamaproxy.server.splice import Outcome
from tests.gateway import PATIENCE
from tests.server.splicing import SSE, chunk, says, slow_reader, spliced, takes_little

pytestmark = pytest.mark.usefixtures("known")

USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'


async def test_chunked_body_arrives_whole() -> None:
    async with spliced(says(SSE, chunk(b"data: 1\n\n"), chunk(b"data: 2\n\n"), b"0\r\n\r\n")) as client:
        response = await client.get("/")
        assert await response.read() == b"data: 1\n\ndata: 2\n\n"


async def test_an_observer_sees_the_body_as_the_client_gets_it() -> None:
    seen: list[bytes] = []
    script = says(SSE, chunk(b"data: 1\n\n"), chunk(b"data: 2\n\n"), b"0\r\n\r\n")
    async with spliced(script, observe=seen.append) as client:
        response = await client.get("/")
        assert b"".join(seen) == await response.read() == b"data: 1\n\ndata: 2\n\n"


@pytest.mark.parametrize(
    "parts",
    [
        (SSE, chunk(EVENT), chunk(EVENT), chunk(USAGE), chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"),
        (SSE + chunk(EVENT + EVENT + USAGE[:9]), chunk(USAGE[9:] + b"data: [DONE]\n\n") + b"0\r\n\r\n"),
        (SSE.replace(b"Transfer-Encoding: chunked\r\n", b""), EVENT + EVENT + USAGE, b"data: [DONE]\n\n"),
    ],
    ids=["a chunk each", "cut anywhere", "to the close"],
)
async def test_usage_that_the_client_did_not_ask_for_is_seen_by_the_witness_alone(parts: tuple[bytes, ...]) -> None:
    seen: list[bytes] = []
    async with spliced(says(*parts), observe=seen.append, unasked=Unasked.USAGE) as client:
        response = await client.get("/")
        assert await response.read() == EVENT + EVENT + b"data: [DONE]\n\n"
    assert USAGE in b"".join(seen)


async def test_counts_of_every_token_are_for_the_meter(known: bool) -> None:
    """Most of these events take the short way, each as soon as it has come; nobody sees a difference."""
    token = b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"a"}}]%b}\n\n'
    taken = asyncio.Semaphore(0)

    async def one_by_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SSE)
        for number in range(20):
            writer.write(chunk(token % b',"timings":{"predicted_n":%d}' % number))
            await taken.acquire()
        writer.write(b"0\r\n\r\n")

    meter, fed = StreamMeter(Dialect.OPENAI), 0

    def feed(content: bytes) -> None:
        nonlocal fed
        fed += 1
        meter.feed(content)

    async with spliced(one_by_one, unasked=Unasked.TIMINGS, alone=meter, observe=feed) as client:
        response = await client.get("/")
        for _ in range(20):
            assert await response.content.readuntil(b"\n\n") == token % b""
            taken.release()
        assert await response.read() == b""
    assert (meter.tokens, meter.usage.completion) == (20, 20)
    assert (fed < 5) == known


@pytest.mark.parametrize("unasked", Unasked)
async def test_error_finds_its_place_where_counts_are_taken_out(unasked: Unasked) -> None:
    async with spliced(says(SSE, chunk(EVENT) + chunk(b'data: {"choi')), unasked=unasked) as client:
        response = await client.get("/")
        received = b""
        with pytest.raises(aiohttp.ClientPayloadError):
            async for data in response.content.iter_any():
                received += data
    assert received.startswith(EVENT)
    assert b'data: {"error"' in received


async def test_slow_reader_is_waited_for_and_not_buffered_for() -> None:
    sent = 0
    part = chunk(b"x" * 65536)

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SSE)
        for _ in range(1600):
            writer.write(part)
            await writer.drain()
            sent += len(part)

    async with spliced(pour) as client:
        response = await client.get("/")
        await response.content.readany()
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 20 * 1024**2, "what is not read stays with the engine"
        response.close()


async def test_slow_reader_of_a_whole_stream_has_not_left() -> None:
    """The end may come while it is waited for."""
    outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
    begun, said = asyncio.Event(), asyncio.Event()

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SSE + chunk(b"data: 1\n\n"))
        await begun.wait()
        writer.write(chunk(b"data: %b\n\n" % (150_000 * b"x")) + b"0\r\n\r\n")
        await writer.drain()
        said.set()
        await asyncio.sleep(PATIENCE)

    async with spliced(engine, outcomes=outcomes, begins=takes_little) as client, slow_reader(client) as reader:
        await asyncio.wait_for(reader.readuntil(b"data: 1\n\n"), PATIENCE)
        begun.set()
        await asyncio.wait_for(said.wait(), PATIENCE)
        while not (await asyncio.wait_for(reader.read(4096), PATIENCE)).endswith(b"0\r\n\r\n"):
            pass
        outcome = await asyncio.wait_for(outcomes.get(), PATIENCE)
        assert (outcome.status, outcome.broken) == (200, None)


@pytest.mark.parametrize("short", [False, True])
async def test_client_that_leaves_is_noticed_by_the_engine(short: bool) -> None:
    gone = asyncio.Event()
    token = b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"a"}}],"timings":{"predicted_n":1}}'

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SSE)
        try:
            while True:
                writer.write(chunk(token + b"\n\n"))
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            gone.set()
            raise

    unasked, alone = (Unasked.TIMINGS, StreamMeter(Dialect.OPENAI)) if short else (None, None)
    async with spliced(drip, unasked=unasked, alone=alone) as client:
        response = await client.get("/")
        for _ in range(10):
            await response.content.readuntil(b"\n\n")
        response.close()
        await asyncio.wait_for(gone.wait(), 5)
