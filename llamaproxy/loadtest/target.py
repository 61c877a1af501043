"""One server that is asked: where it is, which key it gets, and what a request to it comes to.

Owns HTTP. No retries, no redirects, no proxy of the environment: what goes wrong is what is measured. Nothing that a
server or the network does raises anything.
"""

import os
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from llamaproxy.loadtest.answer import Answer, Clock, Watch

_CHAT, _MODELS = "/v1/chat/completions", "/v1/models"


@dataclass(frozen=True, slots=True)
class Target:
    """`url` without `/v1` at its end."""

    url: str
    model: str
    key: str | None = None


class Asker:
    """Connections to one target, as many as there are requests at once, used again as any client does."""

    def __init__(self, target: Target, timeout: float, clock: Clock) -> None:
        self._target = target
        self._timeout = timeout
        self._clock = clock
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        if target.key:
            headers["Authorization"] = f"Bearer {target.key}"
        limit = aiohttp.ClientTimeout(total=timeout, sock_connect=timeout)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=limit, headers=headers, cookie_jar=aiohttp.DummyCookieJar()
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def chat(self, body: dict[str, Any]) -> Answer:
        """Ask for a completion and read it to its end."""
        return await self._ask("POST", _CHAT, Watch(self._clock), orjson.dumps(body))

    async def models(self) -> tuple[list[str], Answer]:
        """The names of its models; the answer tells what is wrong where there are none."""
        pieces = _Pieces(self._clock)
        answer = await self._ask("GET", _MODELS, pieces, None)
        return _names(bytes(pieces.body)), answer

    async def _ask(self, method: str, path: str, watch: Watch, body: bytes | None) -> Answer:
        try:
            async with self._session.request(
                method, self._target.url + path, data=body, allow_redirects=False
            ) as response:
                watch.head(response.status, response.content_type)
                async for piece in response.content.iter_any():
                    if not watch.feed(piece):
                        response.close()
                        break
        except TimeoutError:
            return watch.ended(f"no whole answer within {self._timeout:g} s", late=True)
        except (aiohttp.ClientError, ValueError) as error:
            return watch.ended(_in_words(error))
        return watch.ended()


class _Pieces(Watch):
    """Keeps the body."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.body = bytearray()

    def feed(self, piece: bytes) -> bool:
        self.body += piece
        return super().feed(piece)


def _names(body: bytes) -> list[str]:
    try:
        listed = orjson.loads(body)["data"]
        return [str(model["id"]) for model in listed]
    except (ValueError, LookupError, TypeError):
        return []


def _in_words(error: Exception) -> str:
    """Without ports and numbers that differ from one request to the next: equal faults are counted together."""
    match error:
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed without an answer"
        case aiohttp.ClientConnectorError():
            # The words beside the number are the event loop's own.
            number = error.errno or 0
            return f"no connection: {os.strerror(number) if number > 0 else error.strerror or error}"
        case aiohttp.ClientPayloadError():
            return "the answer broke off"
        case aiohttp.ClientOSError():
            return f"the connection broke: {error.strerror or type(error).__name__}"
    return type(error).__name__
