"""The way to one engine process: the exchange of one request and response.

Owns the spelling of requests and the connections; closing it closes them all, which an engine waits for before it
exits. Bodies of answers are handed on as they come: reading them is for the gateway's own questions only.
"""

import asyncio
import functools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llamaproxy.backends.command import Address
from llamaproxy.backends.connections import Connections
from llamaproxy.backends.wire import Connection, ConnectionLost
from llamaproxy.core.framing import ChunkedBody
from llamaproxy.core.response import BadResponse, Framing, Head

_TARGET = re.compile(r"[\x21-\x7e]+")
_ONE_WRITE = 64 * 1024
"""Bytes of a body that is worth copying to have it sent together with its head."""
_LONGEST_ANSWER = 8 * 1024**2
"""Bytes of an answer to the gateway itself."""

Fields = list[tuple[str, str]]


class UpstreamLost(Exception):
    """No answer, or none that can be understood, and nothing of it has gone anywhere."""


class Answer:
    """The head of an answer, and the way to its body. ConnectionLost and BadResponse tell of one that breaks off."""

    def __init__(self, connection: Connection, head: Head) -> None:
        self.head = head
        self._connection = connection
        self.begin = connection.begin
        self.relay = connection.relay
        self.insert = connection.insert
        self.pause = connection.pause
        self.resume = connection.resume
        self.abort = connection.abort

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def content_type(self) -> str:
        """In small letters and without parameters."""
        value = next((value for name, value in self.head.fields if name.lower() == b"content-type"), b"")
        return value.split(b";")[0].strip().lower().decode("latin-1")

    @property
    def heard_at(self) -> float:
        """When something last came, in seconds of the event loop's clock."""
        return self._connection.heard_at

    async def read(self, most: int = _LONGEST_ANSWER) -> bytes:
        """The content of the whole body. Raises UpstreamLost, also where it is larger than `most` bytes."""
        content = bytearray()
        chunks = ChunkedBody(content.extend)
        take = chunks.feed if self.head.framing is Framing.CHUNKED else content.extend

        def bounded(data: bytes) -> None:
            take(data)
            if len(content) > most:
                self.abort()

        try:
            await self.relay(bounded)
        except (ConnectionLost, BadResponse) as error:
            raise UpstreamLost(str(error)) from error
        return bytes(content)


class Upstream:
    """An engine process as seen by HTTP."""

    def __init__(self, address: Address) -> None:
        self.address = address
        loop = asyncio.get_running_loop()
        self._connections = Connections(
            functools.partial(loop.create_unix_connection, path=str(address.socket))
            if address.socket
            else functools.partial(loop.create_connection, host="127.0.0.1", port=address.port)
        )
        self._host = f"127.0.0.1:{address.port}" if address.port else "localhost"
        self._own = [("Authorization", f"Bearer {address.key}")] if address.key else []

    @asynccontextmanager
    async def exchange(self, method: str, target: str, fields: Fields, body: bytes | None) -> AsyncIterator[Answer]:
        """Send a request and yield the answer once its head is here; `target` goes out as it is spelled.

        Leaving the block closes the connection if the body was not relayed to its end. Raises UpstreamLost.
        """
        request = self._spelled(method, target, fields, body or b"")
        exchange = self._connections.exchange(*request, to_head=method == "HEAD")
        try:
            connection, head = await exchange.__aenter__()
        except (ConnectionLost, BadResponse) as error:
            raise UpstreamLost(str(error)) from error
        try:
            yield Answer(connection, head)
        finally:
            await exchange.__aexit__(None, None, None)

    async def ask(self, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and content of a short exchange that is the gateway's own. Raises UpstreamLost."""
        fields = [("Content-Type", "application/json")] if body else []
        async with self.exchange(method, target, fields, body) as answer:
            return answer.status, await answer.read()

    async def health(self) -> int | None:
        """The status of the engine's /health; None where nobody answers."""
        try:
            async with self.exchange("GET", "/health", [], None) as answer:
                return answer.status
        except UpstreamLost:
            return None

    async def close(self) -> None:
        """End every exchange: those that wait for a head get UpstreamLost, readers of a body ConnectionLost."""
        self._connections.close()

    def _spelled(self, method: str, target: str, fields: Fields, body: bytes) -> tuple[bytes, ...]:
        """A large body stays a piece of its own. Raises UpstreamLost for a target that is not one."""
        if not _TARGET.fullmatch(target):
            raise UpstreamLost("the target of the request cannot be spelled")
        lines = [f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in (*fields, *self._own)]
        if body:
            lines.append(f"Content-Length: {len(body)}\r\n")
        head = ("".join(lines) + "\r\n").encode("utf-8", "surrogateescape")
        return (head + body,) if len(body) <= _ONE_WRITE else (head, body)
