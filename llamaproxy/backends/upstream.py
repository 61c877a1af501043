"""The way to one engine process: connections, and the exchange of one request and response.

Owns the connections; closing it closes them all, which an engine waits for before it exits. Everything that knows the
HTTP client library stands here and in `server.splice`.
"""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from llamaproxy.backends.command import Address

# llama-server closes a connection after 5 s of rest or 100 requests, and a request that meets the close is lost. A new
# connection to a Unix socket costs less than the bookkeeping that would avoid this.
_READ_BUFFER = 64 * 1024
_LONGEST_ANSWER = 8 * 1024**2
"""Bytes of an answer to the gateway itself: /slots has some KB for each of at most a few hundred slots."""
_BEING_STOPPED = "the backend is being stopped"


class UpstreamLost(Exception):
    """The connection broke before the head of the response was complete."""


class Upstream:
    """An engine process as seen by HTTP."""

    def __init__(self, address: Address) -> None:
        self.address = address
        connector = (
            aiohttp.UnixConnector(str(address.socket), limit=0, force_close=True)
            if address.socket
            else aiohttp.TCPConnector(limit=0, force_close=True)
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            read_bufsize=_READ_BUFFER,
        )
        self._base = f"http://127.0.0.1:{address.port}" if address.port else "http://localhost"
        self._sending: set[asyncio.Timeout] = set()
        self._open: set[aiohttp.ClientResponse] = set()
        self._own = [("Authorization", f"Bearer {address.key}")] if address.key else []

    @asynccontextmanager
    async def exchange(
        self, method: str, target: str, headers: list[tuple[str, str]], body: bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and yield the response once its head is here; `target` goes out as it is spelled.

        Leaving the block closes the connection if the body was not read to its end. Raises UpstreamLost.
        """
        response = await self._send(method, target, headers, body)
        if self._session.closed:
            # The head came in the moment of the close, which no longer saw the one and not yet the other.
            response.close()
            raise UpstreamLost(_BEING_STOPPED)
        self._open.add(response)
        try:
            yield response
        finally:
            self._open.discard(response)
            response.close()

    async def _send(
        self, method: str, target: str, headers: list[tuple[str, str]], body: bytes | None
    ) -> aiohttp.ClientResponse:
        if self._session.closed:
            raise UpstreamLost(_BEING_STOPPED)
        sending = asyncio.timeout(None)
        self._sending.add(sending)
        try:
            async with sending:
                return await self._session.request(
                    method,
                    URL(self._base + target, encoded=True),
                    headers=[*headers, *self._own],
                    data=io.BytesIO(body) if body else None,
                    allow_redirects=False,
                )
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamLost(str(error) or type(error).__name__) from error
        finally:
            self._sending.discard(sending)

    async def health(self) -> int | None:
        """The status of the engine's /health; None where nobody answers."""
        try:
            async with self.exchange("GET", "/health", [], None) as response:
                return response.status
        except UpstreamLost:
            return None

    async def ask(self, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of a short exchange that is the gateway's own. Raises UpstreamLost."""
        fields = [("Content-Type", "application/json")] if body else []
        async with self.exchange(method, target, fields, body) as response:
            answer = bytearray()
            try:
                while (chunk := await response.content.readany()) and len(answer) < _LONGEST_ANSWER:
                    answer += chunk
            except (aiohttp.ClientError, OSError) as error:
                raise UpstreamLost(str(error) or type(error).__name__) from error
            return response.status, bytes(answer)

    async def close(self) -> None:
        """End every exchange: those that wait for a head get UpstreamLost, readers of a body a ClientError.

        Closing the session alone would leave both waiting for what cannot come.
        """
        for sending in self._sending:
            if not sending.expired():
                sending.reschedule(0)
        for response in tuple(self._open):
            response.close()
        await self._session.close()
