"""Keep-alive connections to one engine.

Owns which connection the next exchange gets. An engine closes an idle connection after 5 s, and any after 100 requests
(llama-server, cpp-httplib's defaults): those are left alone well before. A request that meets the close all the same
is sent again on a new connection, because nothing was done for it.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

from llamaproxy.backends.lost import ConnectionLost, ConnectionSilent
from llamaproxy.backends.silence import FOR_EVER
from llamaproxy.backends.wire import Connection
from llamaproxy.core.response import Head
from llamaproxy.errors import Exhausted

MAX_IDLE = 2.5
"""Seconds."""
MAX_EXCHANGES = 95

_ASK_AGAIN = 0.02
"""Seconds."""

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Connect(Protocol):
    """Opens a connection with a protocol that is made so, as the event loop's own methods do. Raises OSError."""

    async def __call__(self, protocol: Callable[[], P], /) -> tuple[asyncio.BaseTransport, P]: ...


class Connections:
    """The last one that was given back is the first to be used again: the others may go."""

    def __init__(self, connect: Connect, max_idle: float = MAX_IDLE) -> None:
        self._connect = connect
        self._max_idle = max_idle
        self._loop = asyncio.get_running_loop()
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self.closed = False

    def __len__(self) -> int:
        return len(self._open)

    async def ask(
        self, request: tuple[bytes, ...], to_head: bool = False, patience: float = FOR_EVER
    ) -> tuple[Connection, Head]:
        """Send a request, in one piece or several; the connection it went on, and the head of the answer.

        The body is still to be relayed, and the connection to be given back. Raises ConnectionLost, or BadResponse.
        """
        while True:
            connection = self._rested() or await self._new(patience)
            try:
                return connection, await connection.ask(*request, to_head=to_head, patience=patience)
            except ConnectionLost as lost:
                if lost.heard or connection.exchanges < 2 or self.closed:
                    raise
            except BaseException:  # cancelled in the middle of an exchange, it can serve no other
                self._drop(connection)
                raise

    def give_back(self, connection: Connection) -> None:
        """It may serve another exchange where this one has come to its end, and is closed where it has not."""
        if connection.reusable and connection.exchanges < MAX_EXCHANGES and not self.closed:
            self._idle.append(connection)
        else:
            self._drop(connection)

    def close(self) -> None:
        """End every exchange at once, and begin no other."""
        self.closed = True
        for connection in tuple(self._open):
            self._drop(connection)

    def retire(self) -> None:
        """Begin no other exchange, and end those that have no head yet."""
        self.closed = True
        for connection in tuple(self._open):
            if not connection.answering:
                self._drop(connection)

    def _rested(self) -> Connection | None:
        """One that is young enough; those that are not are closed here."""
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and self._loop.time() - connection.idle_since <= self._max_idle:
                return connection
            self._drop(connection)
        return None

    async def _new(self, patience: float) -> Connection:
        self._refuse_if_closed()
        try:
            async with asyncio.timeout(patience if patience < FOR_EVER else None):
                connection = await self._connected()
        except TimeoutError as error:
            raise ConnectionSilent("nobody accepts a connection", heard=True) from error
        except OSError as error:
            if error.errno in Exhausted.ERRORS:
                raise Exhausted(f"the gateway cannot connect: {error.strerror}", retry_after=1) from error
            raise ConnectionLost(f"cannot connect: {error.strerror or error}", heard=False) from error
        try:
            self._refuse_if_closed()
        except ConnectionLost:
            connection.abort()
            raise
        self._open.add(connection)
        return connection

    async def _connected(self) -> Connection:
        """A listening socket whose queue is full is asked again: it has no room because it is about to accept."""
        while True:
            try:
                _, connection = await self._connect(lambda: Connection(self._lost))
            except BlockingIOError:
                await asyncio.sleep(_ASK_AGAIN)
                self._refuse_if_closed()
            else:
                return connection

    def _refuse_if_closed(self) -> None:
        if self.closed:
            raise ConnectionLost("the backend is being stopped", heard=False)

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.abort()

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
