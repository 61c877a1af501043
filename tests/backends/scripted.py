"""An engine that answers bytes as a script says: what no well-behaved server does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.folders import short_folder

Answer = Callable[["Scripted", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ASK = b"GET /x HTTP/1.1\r\nHost: e\r\n\r\n"


class Scripted:
    """`connections` counts those that came, `requests` the requests that were read, over all of them."""

    def __init__(self, script: Callable[[int], bytes | None]) -> None:
        """`script` says what to answer to the n-th request of a connection; None closes it."""
        self._script = script
        self.path = short_folder() / "s"
        self.connections = 0
        self.requests = 0
        self.gone = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = 0
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                number += 1
                self.requests += 1
                if (answer := self._script(number)) is None:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.gone.set()
            writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Scripted"]:
        server = await asyncio.start_unix_server(self._serve, self.path)
        try:
            yield self
        finally:
            server.close()
