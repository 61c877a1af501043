"""What a listener answers that speaks the API of another server, beside OpenAI's routes.

Owns the shape only: which routes there are is for each of them to say.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from llamaproxy.core.routing import Dialect
from llamaproxy.errors import MethodNotAllowed

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """`like` is the gateway's own path whose rules hold: who may come in, and whether a refusal has a row."""

    handlers: Mapping[str, Handler]
    like: str

    def handler(self, method: str, path: str) -> Handler:
        """Raises MethodNotAllowed."""
        if found := self.handlers.get("GET" if method == "HEAD" else method):
            return found
        raise MethodNotAllowed.taking(path[:200], self.handlers)


class Front(Protocol):
    """`dialect` is that of its errors."""

    dialect: Dialect

    def find(self, path: str) -> Route | None:
        """The route of a normalised path, if it is one of this API's own."""
