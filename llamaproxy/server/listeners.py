"""The addresses that the gateway listens on, and what answers there.

Owns the servers of connections while they run. Which there are, and what they answer, `app` says.
"""

import asyncio
import os
from collections.abc import Mapping

from aiohttp import web

from llamaproxy.config import ServerConfig
from llamaproxy.server.inbound import Inbound

_LAST_WORDS = 2.0
"""Seconds for streams that were cut off at shutdown to say so."""
_BACKLOG = 1024


class Listeners:
    """One for each of `inbounds`, whose names are the keys of the configuration that have the ports."""

    def __init__(self, config: ServerConfig, inbounds: Mapping[str, Inbound]) -> None:
        self._config = config
        self._runners = {
            name: web.ServerRunner(inbound, shutdown_timeout=_LAST_WORDS) for name, inbound in inbounds.items()
        }

    async def start(self) -> None:
        """Raises OSError, which names the address and the key."""
        for name, runner in self._runners.items():
            port = getattr(self._config, name)
            await runner.setup()
            try:
                await web.TCPSite(runner, self._config.host, port, backlog=_BACKLOG).start()
            except OSError as error:
                number = error.errno or 0
                # asyncio's own words say the address once more; those of a failed lookup have a negative number.
                reason = os.strerror(number) if number > 0 else error.strerror
                message = f"cannot listen on {self._config.host}:{port} (server.{name}): {reason}"
                raise OSError(error.errno, message) from error

    @property
    def urls(self) -> dict[str, str]:
        """Where they can be reached, once they were started."""
        addresses = {name: runner.addresses[0][:2] for name, runner in self._runners.items()}
        return {
            name: f"http://{f'[{host}]' if ':' in host else host}:{port}" for name, (host, port) in addresses.items()
        }

    async def close(self) -> None:
        """All at once: what was cut off has its last words in the same seconds."""
        await asyncio.gather(*(runner.cleanup() for runner in self._runners.values()))
