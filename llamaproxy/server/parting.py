"""Answers to a client that is still sending: the last word, and then nobody reads what comes.

Owns those answers; how long such a client is listened to is its connection's business.
"""

from typing import Any, Protocol, cast

from aiohttp import web

from llamaproxy.core.routing import Dialect, dialect_of
from llamaproxy.errors import GatewayError
from llamaproxy.server.answers import closing_answer
from llamaproxy.server.incoming import Request
from llamaproxy.server.stamp import fresh_id


class Parting(Protocol):
    """Of a client's connection, what is needed here."""

    async def part(self, last: bytes = b"") -> None:
        """Say the last word, and drop what the client still sends, until it leaves or has had its time."""


class Refusal(web.StreamResponse):
    """An answer after which the client is listened to for a moment, and never again."""

    def __init__(self, connection: Parting, error: GatewayError, dialect: Dialect = Dialect.OPENAI) -> None:
        super().__init__(status=error.status)
        self.force_close()
        self._connection = connection
        self._bytes = closing_answer(error, fresh_id(), dialect)

    async def prepare(self, request: web.BaseRequest) -> None:
        """Its head is with its bytes."""

    async def write_eof(self, data: Any = b"") -> None:
        await self._connection.part(self._bytes)


async def refused(request: Request, error: GatewayError) -> web.StreamResponse:
    return Refusal(_connection(request), error, dialect_of(request.path))


async def close_after(request: Request, response: web.StreamResponse) -> None:
    """Answer a client that is still sending what nobody wants to have."""
    response.force_close()
    try:
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        return  # it has left, and nobody else waits for this
    await _connection(request).part()


def _connection(request: Request) -> Parting:
    return cast(Parting, request.protocol)
