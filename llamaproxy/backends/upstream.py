"""The way to one backend: connections, and the exchange of one request and response.

Owns the connections; closing it closes them all, which an engine waits for before it exits. Servers elsewhere are
reached as they are configured: certificates are verified, no proxy of the environment comes between, and no redirect
is followed. Everything that knows the
HTTP client library stands here and in `server.splice`.
"""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp
from yarl import URL

from llamaproxy.backends.command import Address

# llama-server closes a connection after 5 s of rest or 100 requests, and a request that meets the close is lost. A new
# connection to a Unix socket costs less than the bookkeeping that would avoid this.
_READ_BUFFER = 64 * 1024

# Elsewhere it costs round trips, and is kept. A request that meets the close is sent again.
_KEEP_ALIVE = 15.0
_CONNECT_TIMEOUT = 5.0
"""Seconds to find a server elsewhere and to be let in."""
_MOST_TRIES = 4
_CLOSED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)
_BEING_STOPPED = "the backend is being stopped"


class UpstreamLost(Exception):
    """The connection broke before the head of the response was complete."""


@dataclass(eq=False, slots=True)
class _Try:
    """One try to send a request; `reused` once it has a connection that carried another before."""

    limit: asyncio.Timeout
    reused: bool = False


class Upstream:
    """A backend as seen by HTTP; `health_path` is what it is asked for to see whether it is ready."""

    def __init__(self, address: Address, health_path: str = "/health") -> None:
        self.address = address
        self.health_path = health_path
        self._session = aiohttp.ClientSession(
            connector=_connector(address),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=_CONNECT_TIMEOUT if address.url else None),
            trace_configs=[_noting_reuse()] if address.url else [],
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            read_bufsize=_READ_BUFFER,
        )
        self._base = address.url or (f"http://127.0.0.1:{address.port}" if address.port else "http://localhost")
        self._sending: set[_Try] = set()
        self._open: set[aiohttp.ClientResponse] = set()
        self._retired = False
        self._own = [("Authorization", f"Bearer {address.key}")] if address.key else []
        if address.url and address.key:
            self._own.append(("X-Api-Key", address.key))

    @property
    def closed(self) -> bool:
        """No connection is left, and none will be made."""
        return self._session.closed

    @asynccontextmanager
    async def exchange(
        self, method: str, target: str, headers: list[tuple[str, str]], body: bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and yield the response once its head is here; `target` goes out as it is spelled.

        Leaving the block closes the connection if the body was not read to its end. Raises UpstreamLost.
        """
        response = await self._send(method, target, headers, body)
        if self.closed:
            # The head came in the moment of the close, which no longer saw the one and not yet the other.
            response.close()
            raise UpstreamLost(_BEING_STOPPED)
        self._open.add(response)
        try:
            yield response
        finally:
            self._open.discard(response)
            response.close()
            if self._retired and not self._open:
                await self._session.close()

    async def _send(
        self, method: str, target: str, headers: list[tuple[str, str]], body: bytes | None
    ) -> aiohttp.ClientResponse:
        for left in reversed(range(_MOST_TRIES)):
            if self.closed or self._retired:
                raise UpstreamLost(_BEING_STOPPED)
            attempt = _Try(asyncio.timeout(None))
            try:
                return await self._try(attempt, method, target, headers, body)
            except (aiohttp.ClientError, OSError) as error:
                if not (left and attempt.reused and isinstance(error, _CLOSED)):
                    raise UpstreamLost(str(error) or type(error).__name__) from error
        raise AssertionError("the last try has ended")

    async def _try(
        self, attempt: _Try, method: str, target: str, headers: list[tuple[str, str]], body: bytes | None
    ) -> aiohttp.ClientResponse:
        self._sending.add(attempt)
        try:
            async with attempt.limit:
                return await self._session.request(
                    method,
                    URL(self._base + target, encoded=True),
                    headers=[*headers, *self._own],
                    data=io.BytesIO(body) if body else None,
                    allow_redirects=False,
                    trace_request_ctx=attempt,
                )
        finally:
            self._sending.discard(attempt)

    async def health(self) -> int | None:
        """The status of the engine's own answer; None where nobody answers."""
        try:
            return await self.status(self.health_path)
        except UpstreamLost:
            return None

    async def status(self, path: str) -> int:
        """The status of the answer to a GET. Raises UpstreamLost."""
        async with self.exchange("GET", path, [], None) as response:
            return response.status

    async def retire(self) -> None:
        """Those that wait for a head get UpstreamLost, those that have one may read to the end; nothing new begins."""
        self._retired = True
        self._give_up_sending()
        if not self._open:
            await self._session.close()

    async def close(self) -> None:
        """End every exchange: those that wait for a head get UpstreamLost, readers of a body a ClientError.

        Closing the session alone would leave both waiting for what cannot come.
        """
        self._give_up_sending()
        for response in tuple(self._open):
            response.close()
        await self._session.close()

    def _give_up_sending(self) -> None:
        for attempt in self._sending:
            if not attempt.limit.expired():
                attempt.limit.reschedule(0)


def _connector(address: Address) -> aiohttp.BaseConnector:
    if address.url:
        return aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE)
    if address.socket:
        return aiohttp.UnixConnector(str(address.socket), limit=0, force_close=True)
    return aiohttp.TCPConnector(limit=0, force_close=True)


def _noting_reuse() -> aiohttp.TraceConfig:
    """The client library does not say otherwise whether a connection is a new one."""

    async def note(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
        context.trace_request_ctx.reused = True

    config = aiohttp.TraceConfig()
    config.on_connection_reuseconn.append(note)
    return config
