"""A client that sends bytes as they are, whether they are HTTP or not, and reads what comes until it has enough."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_STATUS = re.compile(rb"(?:\A|(?<=[\n}]))HTTP/1\.[01] (\d{3}) ")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the gateway; it is closed at once when the block ends."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        # The socket is only closed in the next turn of the loop.
        await asyncio.sleep(0)


async def answers(reader: asyncio.StreamReader, silence: float) -> tuple[bytes, bool]:
    """All that comes until the gateway closes, or says nothing for `silence` seconds, and whether it closed."""
    received = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while data := await asyncio.wait_for(reader.read(1 << 16), silence):
            received += data
    return received, reader.at_eof() or reader.exception() is not None


async def converse(url: str, data: bytes, silence: float) -> tuple[list[int], bool]:
    """The statuses of all answers to these bytes, and whether the gateway closed the connection."""
    async with connected(url) as (reader, writer):
        writer.write(data)
        received, closed = await answers(reader, silence)
    return [int(status) for status in _STATUS.findall(received)], closed


def chat_request(name: str, key: str, body: bytes) -> bytes:
    """A chat completion whose id is `name`."""
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nX-Request-Id: {name}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
