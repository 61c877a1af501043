"""A page for tests: it asks over the WebSocket, and keeps what it is told meanwhile."""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import ClientWebSocketResponse
from aiohttp.test_utils import TestClient

from tests.gateway import PATIENCE

Message = dict[str, Any]


class Watcher:
    """Answers come to who asked; everything else waits in `told`."""

    def __init__(self, socket: "ClientWebSocketResponse[bool]") -> None:
        self.socket = socket
        self.told: deque[Message] = deque()
        self._numbers = itertools.count(1)

    async def ask(self, event: str, **data: Any) -> Message:
        """The whole response."""
        return await self.send({"type": "request", "event": event, "data": data, "version": "1.0"})

    async def send(self, message: Message) -> Message:
        number = f"r{next(self._numbers)}"
        await self.socket.send_bytes(orjson.dumps({"requestId": number, **message}))
        while True:
            told = await self._receive()
            if told["type"] == "response":
                return told
            self.told.append(told)

    async def subscribe(self, *topics: str) -> Message:
        """Snapshot and numbers."""
        answer = await self.ask("subscribe", topics=topics)
        assert answer["success"], answer
        data: Message = answer["data"]
        return data

    async def next(self, event: str) -> Message:
        """The next broadcast of this name; others before it are forgotten."""
        while True:
            told = await self.anything()
            if told["event"] == event:
                return told

    async def anything(self) -> Message:
        """The next broadcast."""
        return self.told.popleft() if self.told else await self._receive()

    async def _receive(self) -> Message:
        async with asyncio.timeout(PATIENCE):
            message: Message = orjson.loads(await self.socket.receive_str())
            return message


@asynccontextmanager
async def watching(client: TestClient[Any, Any], **headers: str) -> AsyncIterator[Watcher]:
    async with client.ws_connect("/llamaproxws", headers=headers) as socket:
        yield Watcher(socket)
