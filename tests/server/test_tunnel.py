"""llamaproxy.server.tunnel: the backend's end, byte by byte. Whole tunnels are tested in `test_upgrade.py`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llamaproxy.backends.command import Address
from llamaproxy.backends.lost import UpstreamLost
from llamaproxy.backends.upstream import Upstream
from llamaproxy.core.response import MAX_HEAD
from llamaproxy.server.tunnel import Far, reach
from tests.folders import short_folder
from tests.gateway import PATIENCE

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nX: y\r\n\r\n"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def backend(script: Script) -> AsyncIterator[Far]:
    """The end of a connection to a backend that does this."""
    socket = short_folder() / "e.sock"

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(run, socket)
    far = await reach(Upstream(Address(socket=socket)), "/a?b", b"X-Mine: 1\r\n")
    try:
        yield far
    finally:
        far.abort()
        server.close()
        await server.wait_closed()


async def test_request_is_spelled_and_what_follows_the_head_is_kept() -> None:
    asked: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        for byte in HEAD:
            writer.write(bytes([byte]))
            await writer.drain()
        writer.write(b"frame")
        await reader.read()

    async with backend(script) as far:
        head, rest = await asyncio.wait_for(far.head, PATIENCE)
        assert (head.status, head.fields) == (101, ((b"X", b"y"),))
        got = bytearray(rest)
        whole = asyncio.Event()

        def take(data: bytes) -> None:
            got.extend(data)
            if bytes(got) == b"frame":
                whole.set()

        far.sink = take
        assert far.transport
        far.transport.resume_reading()
        if bytes(got) != b"frame":
            await asyncio.wait_for(whole.wait(), PATIENCE)
    assert asked == [b"GET /a?b HTTP/1.1\r\nHost: localhost\r\nX-Mine: 1\r\n\r\n"]


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 101", b"garbage\r\n\r\n", b"HTTP/1.1 101 x\r\nX: " + b"x" * MAX_HEAD])
async def test_no_answer_that_can_be_understood(says: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(says)

    async with backend(script) as far:
        with pytest.raises(UpstreamLost):
            await asyncio.wait_for(far.head, PATIENCE)
        await asyncio.wait_for(far.lost, PATIENCE)


async def test_interim_answers_are_passed_over() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD)
        await reader.read()

    async with backend(script) as far:
        head, _ = await asyncio.wait_for(far.head, PATIENCE)
        assert head.status == 101


async def test_nobody_there() -> None:
    with pytest.raises(UpstreamLost, match="cannot connect"):
        await reach(Upstream(Address(socket=Path("/nowhere/e.sock"))), "/", b"")
