"""From an address to a way there: how a connection is opened, and what requests on it are spelled with.

Servers elsewhere are reached as they are configured: certificates are verified, and no proxy of the environment comes
between.
"""

import asyncio
import functools
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from llamaproxy.backends.command import Address
from llamaproxy.backends.connections import MAX_IDLE, Connect, P

_CONNECT_TIMEOUT = 5.0
"""Seconds to find a server elsewhere and to be let in."""
_MAX_IDLE_ELSEWHERE = 15.0
"""Seconds. A new connection costs round trips there; a request that meets the close is sent again."""
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Route:
    """`prefix` comes before every target; `max_idle` in seconds."""

    connect: Connect
    host: str
    prefix: str = ""
    max_idle: float = MAX_IDLE


def route_to(address: Address) -> Route:
    """Must be called inside a running event loop."""
    loop = asyncio.get_running_loop()
    if address.url:
        return _elsewhere(address.url, loop)
    if address.socket:
        return Route(functools.partial(loop.create_unix_connection, path=str(address.socket)), "localhost")
    connect = functools.partial(loop.create_connection, host="127.0.0.1", port=address.port)
    return Route(connect, f"127.0.0.1:{address.port}")


def _elsewhere(url: str, loop: asyncio.AbstractEventLoop) -> Route:
    parts = urlsplit(url)
    context = _trust() if parts.scheme == "https" else None
    port = parts.port or _PORTS[parts.scheme]

    async def connect(protocol: Callable[[], P]) -> tuple[asyncio.BaseTransport, P]:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                return await loop.create_connection(protocol, parts.hostname or "", port, ssl=context)
        except TimeoutError as error:
            raise ConnectionError(f"no connection within {_CONNECT_TIMEOUT:.0f} s") from error

    return Route(connect, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), _MAX_IDLE_ELSEWHERE)


@functools.cache
def _trust() -> ssl.SSLContext:
    """Whom the system trusts. Reading that takes some milliseconds."""
    return ssl.create_default_context()
