"""One page's WebSocket: what it is sent, and in which order.

Owns the task that sends, and its patience. What is asked and what is told is `live`'s business.
"""

import asyncio
from collections.abc import AsyncGenerator

from aiohttp import WSCloseCode, WSMsgType, web

from llamaproxy import scope
from llamaproxy.core.outbox import Outbox
from llamaproxy.server.incoming import Request
from llamaproxy.tasks import spawn

HEARTBEAT = 20
"""Seconds between two pings; a page that does not answer one within half of that is gone."""
LARGEST_FRAME = 256 * 1024
PATIENCE = 60.0
"""Seconds in which a page must have taken something."""
_LAST_WORD = 1.0
"""Seconds for a page to answer a close."""


class Page:
    """`topics` are what it watches."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.topics: frozenset[str] = frozenset()
        self.outbox = Outbox()
        self.socket: web.WebSocketResponse = web.WebSocketResponse(
            timeout=_LAST_WORD, heartbeat=HEARTBEAT, compress=False, max_msg_size=LARGEST_FRAME
        )
        self._news = asyncio.Event()
        self._all_sent = asyncio.Event()

    async def messages(self) -> AsyncGenerator[str | bytes, None]:
        """What it says, to its end; the WebSocket begins and ends with this."""
        await self.socket.prepare(self.request)
        sending = spawn(self._send(), name="send-to-page", context=scope.of_nobody())
        try:
            async for message in self.socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    yield message.data
        finally:
            sending.cancel()

    def offer(self, frame: bytes) -> bool:
        """Send it, unless too much waits already."""
        taken = self.outbox.offer(frame)
        self._news.set()
        return taken

    async def answer(self, frame: bytes) -> None:
        """Returns when it was sent, after everything before it: who asks is not read from meanwhile."""
        self.outbox.owe(frame)
        self._all_sent.clear()
        self._news.set()
        await self._all_sent.wait()

    async def close(self, code: WSCloseCode, reason: str) -> None:
        """Say goodbye; a page that does not take even that is cut off."""
        try:
            async with asyncio.timeout(2 * _LAST_WORD):
                await self.socket.close(code=code, message=reason.encode())
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        if transport := self.request.transport:
            transport.abort()

    async def _send(self) -> None:
        try:
            while True:
                while (frame := self.outbox.take()) is not None:
                    async with asyncio.timeout(PATIENCE):
                        await self.socket.send_frame(frame, WSMsgType.TEXT)
                self._all_sent.set()
                self._news.clear()
                await self._news.wait()
        except (TimeoutError, ConnectionError):
            self.abort()
