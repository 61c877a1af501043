"""Writing to a client's connection ourselves, under aiohttp's server.

Owns all that the gateway needs of aiohttp beyond what is documented: that a handler may return a response of which
nothing is left to be sent. Its `prepare` and `write_eof` do nothing, and `keep_alive` says whether another request may
follow on the connection. `tests/server/test_passthrough.py` fails where an aiohttp release does not take that.
"""

import asyncio
from functools import lru_cache
from typing import Any

import aiohttp
from aiohttp import web

KNOWN = range(14, 16)
"""Releases of aiohttp 3 whose inside is what is written here. With any other, answers take the way of `fallback`."""
HIGH_WATER = 64 * 1024
"""Bytes that may wait for a client before nothing more is read for it."""


_LAST_PATIENCE = 30.0
"""Seconds for a client to take what was written to it before its connection was closed."""
STARTED = web.RequestKey("started", bool)
"""Set once the head of the response goes out: what fails afterwards can only be cut off."""


def known() -> bool:
    """Whether the installed release takes what is done here."""
    major, minor, *_ = aiohttp.__version__.split(".")
    return major == "3" and minor.isdecimal() and int(minor) in KNOWN


class ClientGone(Exception):
    """The client closed its connection before it had the whole answer."""


class Sent(web.StreamResponse):
    """The answer has gone out on the transport already; nothing is to be changed of it."""

    def __init__(self, status: int, keep_alive: bool) -> None:
        super().__init__(status=status)
        self._may_go_on = keep_alive

    @property
    def keep_alive(self) -> bool:
        return self._may_go_on

    async def prepare(self, request: web.BaseRequest) -> None:
        """There is no head left to send."""

    async def write_eof(self, data: Any = b"") -> None:
        """Nor an end."""


@lru_cache(maxsize=256)
def sent(status: int, keep_alive: bool) -> Sent:
    """One for all that are alike: to make it costs more than to send what it stands for."""
    return Sent(status, keep_alive)


class ClientConnection:
    """The connection that one request came on, to be written to as it is."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.transport = request.transport
        self._started = False

    def write(self, data: bytes) -> bool:
        """Never waits: returns whether it is `congested` now. Raises ClientGone."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ClientGone
        if not self._started:
            self._request[STARTED] = self._started = True
        transport.write(data)
        return transport.get_write_buffer_size() > HIGH_WATER

    @property
    def congested(self) -> bool:
        """Whether the client should take something before it is sent more."""
        return self.transport is not None and self.transport.get_write_buffer_size() > HIGH_WATER

    async def drain(self, patience: float) -> None:
        """Returns when the client has taken enough. Raises ClientGone where it does not within `patience` seconds.

        One that takes nothing for so long holds a place that others wait for; what is buffered for it is dropped.
        """
        try:
            async with asyncio.timeout(patience):
                await self._request.writer.drain()
        except TimeoutError as error:
            self.abort()
            raise ClientGone from error
        except ConnectionError as error:
            raise ClientGone from error

    def close(self) -> None:
        """What was written still goes out; then the connection ends, whatever the answer had promised.

        What its client has sent ahead is not begun.
        """
        if self._request.protocol:
            self._request.protocol.close()
        if self.transport:
            self.transport.close()
            asyncio.get_running_loop().call_later(_LAST_PATIENCE, self.transport.abort)

    def abort(self) -> None:
        """At once."""
        if self.transport:
            self.transport.abort()


async def written(response: web.StreamResponse, data: bytes, request: web.BaseRequest, patience: float) -> None:
    """By aiohttp's own means. Raises ClientGone, also where the client takes nothing for so long."""
    try:
        async with asyncio.timeout(patience):
            await response.write(data)
    except TimeoutError as error:
        if request.transport:
            request.transport.abort()
        raise ClientGone from error
    except ConnectionError as error:
        raise ClientGone from error
