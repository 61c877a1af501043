"""Clients that send whatever bytes a test wants."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.gateway import PATIENCE

_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(.*?)\r\n\r\n", re.DOTALL)
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answers:
    """All that came on one connection until it was closed."""

    text: bytes

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status, _ in _HEAD.findall(self.text)]

    @property
    def last_head(self) -> bytes:
        head: bytes = _HEAD.findall(self.text)[-1][1]
        return head.lower()

    @property
    def error(self) -> dict[str, Any]:
        """Of the last answer, which must have the whole envelope."""
        error: dict[str, Any] = json.loads(self.text.rpartition(b"\r\n\r\n")[2])["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


@asynccontextmanager
async def connected(port: int | None) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def one_answer(reader: asyncio.StreamReader, bare: bool = False) -> bytes:
    """The next one, which says its length, and is as long unless it is `bare`, as those to HEAD are."""
    async with asyncio.timeout(PATIENCE):
        head = await reader.readuntil(b"\r\n\r\n")
        found = _LENGTH.search(head)
        assert found, head
        return head + await reader.readexactly(0 if bare else int(found[1]))


async def until_closed(reader: asyncio.StreamReader) -> Answers:
    """Everything up to the server's close. A reset counts as one."""
    text = b""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(65536):
                text += data
    return Answers(text)


async def say(port: int | None, *parts: bytes) -> Answers:
    """What comes back for these bytes, each part when the loop has had time for the one before."""
    async with connected(port) as (reader, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await until_closed(reader)
