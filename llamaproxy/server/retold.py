"""Answers that are told in another way than the engine's: to clients that know another API.

Owns the way of such an answer to the client, and the bound on one that comes in one piece. It takes no short cut: what
is told anew cannot go on as it comes. In which words is `core`'s.
"""

from collections.abc import Callable
from typing import Protocol

from aiohttp import HttpVersion11, web

from llamaproxy.backends.lost import ConnectionLost, ConnectionSilent, UpstreamLost
from llamaproxy.backends.upstream import Answer
from llamaproxy.core.response import BadResponse
from llamaproxy.errors import UpstreamError, UpstreamStalled
from llamaproxy.server.fallback import PublicRelay, as_fields
from llamaproxy.server.outlet import Outlet

LARGEST = 16 * 1024**2
"""Bytes of an answer in one piece: a thousand embeddings. It is kept whole, and parsed in one go."""


class Retelling(Protocol):
    """`content_type` is that of a stream. `comments`: it may begin with comments, as events can."""

    @property
    def content_type(self) -> str: ...

    @property
    def comments(self) -> bool: ...

    def whole(self, status: int, content: bytes) -> bytes:
        """JSON, of a document that came with this status. Raises BadResponse."""

    def stream(self) -> Outlet:
        """Takes the content of a stream of events. Raises BadResponse."""


def relay(
    request: web.Request,
    answer: Answer,
    own: bytes,
    begun: web.StreamResponse | None,
    retelling: Retelling,
    idle: float,
    on_sent: Callable[[int], None],
) -> PublicRelay:
    """Of a stream; `begun` is a response of which the client has the head. Raises UpstreamError."""
    try:
        outlet = retelling.stream()
    except BadResponse as error:
        raise UpstreamError(f"the engine's answer cannot be understood: {error}") from error
    return PublicRelay(request, answer, begun or _stream(request, own, retelling.content_type), outlet, idle, on_sent)


async def read(answer: Answer, idle: float) -> bytes:
    """The content of an answer in one piece, before anything of it goes anywhere.

    Raises UpstreamLost where it broke off, UpstreamStalled, or UpstreamError where it is too large.
    """
    content = bytearray()

    def take(data: bytes) -> None:
        content.extend(data)
        if len(content) > LARGEST:
            answer.abort()

    try:
        await answer.relay(None, take)
    except ConnectionSilent as error:
        raise UpstreamStalled(f"the engine fell silent for {idle:.0f} s") from error
    except (ConnectionLost, BadResponse) as error:
        if len(content) <= LARGEST:
            raise UpstreamLost(str(error)) from error
    if len(content) > LARGEST:
        raise UpstreamError(f"the engine's answer is larger than {LARGEST} bytes")
    return bytes(content)


def document(answer: Answer, own: bytes, content: bytes, retelling: Retelling) -> web.Response:
    """The answer to an answer in one piece, with its status. Raises UpstreamError where it makes no sense."""
    try:
        told = retelling.whole(answer.status, content)
    except BadResponse as error:
        raise UpstreamError(f"the engine's answer cannot be understood: {error}") from error
    response = web.Response(body=told, status=answer.status, headers=as_fields(own))
    response.content_type = "application/json"
    return response


def _stream(request: web.Request, own: bytes, content_type: str) -> web.StreamResponse:
    response = web.StreamResponse(headers=as_fields(own))
    response.content_type = content_type
    if request.version >= HttpVersion11:
        response.enable_chunked_encoding()
    return response
