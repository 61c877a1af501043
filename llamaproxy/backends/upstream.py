"""The way to one backend: the exchange of one request and response.

Owns the spelling of requests and the connections; closing it closes them all, which an engine waits for before it
exits. Bodies of answers are handed on as they come: reading them is for the gateway's own questions only. No redirect
is followed.
"""

import asyncio
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Self

from llamaproxy.backends.command import Address
from llamaproxy.backends.connections import Connections, P
from llamaproxy.backends.lost import ConnectionLost, UpstreamLost, unanswered
from llamaproxy.backends.route import route_to
from llamaproxy.backends.silence import FOR_EVER
from llamaproxy.backends.wire import Connection, Diversion, Sink
from llamaproxy.core.response import BadResponse, Head
from llamaproxy.errors import Exhausted

_TARGET = re.compile(r"[\x21-\x7e]+")
_WITH_A_BODY = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose requests tell their length also where it is 0. Source: RFC 9110, section 8.6."""
_ONE_WRITE = 64 * 1024
"""Bytes of a body that is worth copying to have it sent together with its head."""
_LONGEST_ANSWER = 8 * 1024**2
"""Bytes of an answer to the gateway itself."""

_NO_FIELDS = b""
_JSON = b"Content-Type: application/json\r\n"


class Answer:
    """The answer to one request: entered when its head is here, which raises UpstreamLost.

    Leaving it closes the connection if the body was not relayed to its end. ConnectionLost and BadResponse tell of one
    that breaks off.
    """

    def __init__(self, connections: Connections, request: tuple[bytes, ...], to_head: bool, patience: float) -> None:
        self._connections = connections
        self._request = request
        self._to_head = to_head
        self._patience = patience
        self._connection: Connection
        self.head: Head
        self.status: int

    async def __aenter__(self) -> Self:
        try:
            self._connection, self.head = await self._connections.ask(self._request, self._to_head, self._patience)
        except (ConnectionLost, BadResponse) as error:
            raise unanswered(error) from error
        self.status = self.head.status
        return self

    async def __aexit__(self, *error: object) -> None:
        self._connections.give_back(self._connection)

    @property
    def begun(self) -> bool:
        """Some of the body is here."""
        return self._connection.begun

    async def begin(self) -> None:
        """Returns when the first byte of the body is here, or its end. Raises UpstreamLost."""
        try:
            await self._connection.begin()
        except (ConnectionLost, BadResponse) as error:
            raise unanswered(error) from error

    def whole(self) -> bytes | None:
        """See `Connection`, as of `relay` and what follows it."""
        return self._connection.whole()

    async def read(self, most: int = _LONGEST_ANSWER) -> bytes:
        """The content of the whole body. Raises UpstreamLost, also where it is larger than `most` bytes."""
        content = bytearray()

        def bounded(data: bytes) -> None:
            content.extend(data)
            if len(content) > most:
                self.abort()

        try:
            await self.relay(None, bounded)
        except (ConnectionLost, BadResponse) as error:
            raise UpstreamLost(str(error)) from error
        if len(content) > most:
            raise UpstreamLost(f"its answer is larger than {most} bytes")
        return bytes(content)

    def relay(self, sink: Sink | None, content: Sink | None = None) -> asyncio.Future[None]:
        return self._connection.relay(sink, content)

    def divert(self, by: Callable[[Connection], Diversion]) -> None:
        self._connection.divert(by)

    def bear(self, patience: float) -> None:
        self._connection.bear(patience)

    def insert(self, content: bytes) -> bytes:
        return self._connection.insert(content)

    def pause(self) -> None:
        self._connection.pause()

    def resume(self) -> None:
        self._connection.resume()

    def abort(self) -> None:
        self._connection.abort()


class Upstream:
    """A backend as seen by HTTP; `health_path` is what it is asked for to see whether it is ready."""

    def __init__(self, address: Address, health_path: str = "/health") -> None:
        self.address = address
        self.health_path = health_path
        self._route = route_to(address)
        self._connections = Connections(self._route.connect, self._route.max_idle)
        own = f"Authorization: Bearer {address.key}\r\n" if address.key else ""
        if address.url and address.key:
            own += f"X-Api-Key: {address.key}\r\n"
        self._own = f" HTTP/1.1\r\nHost: {self._route.host}\r\n{own}".encode()

    @property
    def closed(self) -> bool:
        """No connection is left, and none will be made."""
        return self._connections.closed and not len(self._connections)

    def exchange(
        self, method: str, target: str, fields: bytes, body: bytes | None, patience: float = FOR_EVER
    ) -> Answer:
        """A request to be sent; `target` and `fields`, which are lines of header fields, go out as they are spelled.

        The engine may be silent for `patience` seconds. Raises UpstreamLost for a target that is not one.
        """
        request = self._spelled(method, target, fields, body or b"")
        return Answer(self._connections, request, method == "HEAD", patience)

    async def ask(self, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and content of a short exchange that is the gateway's own. Raises UpstreamLost."""
        fields = _JSON if body else _NO_FIELDS
        async with self.exchange(method, target, fields, body) as answer:
            return answer.status, await answer.read()

    async def health(self) -> int | None:
        """The status of the backend's own answer; None where nobody answers. Raises Exhausted."""
        try:
            return await self.status(self.health_path)
        except UpstreamLost:
            return None

    async def status(self, path: str) -> int:
        """The status of the answer to a GET. Raises UpstreamLost."""
        async with self.exchange("GET", path, _NO_FIELDS, None) as answer:
            return answer.status

    async def retire(self) -> None:
        """Those that wait for a head get UpstreamLost, those that have one may read to the end; nothing new begins."""
        self._connections.retire()

    async def close(self) -> None:
        """End every exchange: those that wait for a head get UpstreamLost, readers of a body ConnectionLost."""
        self._connections.close()

    async def reach(self, protocol: Callable[[], P]) -> P:
        """A connection of the caller's own, beside those of the exchanges. Raises UpstreamLost."""
        try:
            _, reached = await self._route.connect(protocol)
        except OSError as error:
            if error.errno in Exhausted.ERRORS:
                raise Exhausted(f"the gateway cannot connect: {error.strerror}", retry_after=1) from error
            raise UpstreamLost(f"cannot connect: {error.strerror or error}") from error
        return reached

    def head(self, method: str, target: str, fields: bytes) -> bytes:
        """The head of a request as this backend gets it. Raises UpstreamLost for a target that cannot be spelled."""
        return b"%b%b\r\n" % (_beginning(method, self._route.prefix, target, self._own), fields)

    def _spelled(self, method: str, target: str, fields: bytes, body: bytes) -> tuple[bytes, ...]:
        """A large body stays a piece of its own."""
        if body or method in _WITH_A_BODY:
            fields = b"%bContent-Length: %d\r\n" % (fields, len(body))
        head = self.head(method, target, fields)
        return (head + body,) if len(body) <= _ONE_WRITE else (head, body)


@lru_cache(maxsize=256)
def _beginning(method: str, prefix: str, target: str, own: bytes) -> bytes:
    """The head without the client's fields. Requests are alike, up to there."""
    if not _TARGET.fullmatch(target):
        raise UpstreamLost("the target of the request cannot be spelled")
    return f"{method} {prefix}{target}".encode() + own
