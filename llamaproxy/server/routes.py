"""The table of routes below /api: what each takes and answers, and the way from a request to its handler.

One table drives dispatching and the description in `openapi`. Owns how paths are matched, and what holds for every
answer here. Knows no route by name: `api` does.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from llamaproxy.core.routing import Dialect
from llamaproxy.errors import GatewayError, MethodNotAllowed, NotFound
from llamaproxy.server.answers import error_response
from llamaproxy.server.passthrough import Sent
from llamaproxy.server.posted import as_value, read_as

Handler = Callable[..., Awaitable[web.StreamResponse]]
_READING = "GET"
_NOT_STORED = {"Cache-Control": "no-store"}


class Nothing(BaseModel):
    """An empty object, or no bytes at all."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One of a query or a path; `schema` is JSON Schema. The handler checks it."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    `{name}` in the path stands for one part or more, so that names with slashes may be spelled with them or with
    escapes. The handler is given the request, what the path says there, and the body where there is a type for one.
    `answer` is any type that pydantic has a schema for; `errors` are those beside what every route may answer. A `raw`
    one reads the body itself: it may be as large as any request's. `media` is the type of what it answers with.
    """

    method: str
    path: str
    handler: Handler
    title: str
    answer: Any
    description: str = ""
    query: tuple[Parameter, ...] = ()
    body: type[BaseModel] | None = None
    errors: tuple[type[GatewayError], ...] = ()
    status: int = 200
    media: str = "application/json"
    raw: bool = False

    @property
    def unsafe(self) -> bool:
        """Whether it changes something."""
        return self.method != _READING

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.path.strip("/").split("/"))


class Routes:
    """The routes by path, the most particular first."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._paths: dict[tuple[str, ...], dict[str, Route]] = {}
        for route in sorted(self.routes, key=_particular):
            self._paths.setdefault(route.parts, {})[route.method] = route

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """The whole answer, errors included."""
        response: web.StreamResponse
        try:
            response = await self._answer(request)
        except GatewayError as error:
            response = error_response(error, Dialect.OPENAI)
        if not isinstance(response, Sent) and not response.prepared:
            response.headers.setdefault("Cache-Control", _NOT_STORED["Cache-Control"])
        return response

    def methods(self, raw_path: str) -> list[str]:
        """What the path takes; nothing where there is none."""
        return sorted({method for methods, _ in self._find(raw_path) for method in methods})

    async def perform(self, request: web.Request, content: dict[str, Any]) -> web.StreamResponse:
        """For what came another way: `content` stands for the body. Raises GatewayError."""
        route, given = self._route(request)
        if route.unsafe:
            value = as_value(content, route.body or Nothing)
            given += [value] if route.body else []
        return await route.handler(request, *given)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        route, given = self._route(request)
        if route.unsafe and not route.raw:
            content = await read_as(request, route.body or Nothing)
            given += [content] if route.body else []
        return await route.handler(request, *given)

    def _route(self, request: web.Request) -> tuple[Route, list[Any]]:
        """With what the path says. Raises NotFound or MethodNotAllowed."""
        raw_path = request.rel_url.raw_path
        method = _READING if request.method == "HEAD" else request.method
        found = list(self._find(raw_path))
        if not found:
            raise NotFound(f"there is no {unquote(raw_path)[:200]!r} here")
        route, named = next(((methods[method], named) for methods, named in found if method in methods), (None, []))
        if route is None:
            methods = self.methods(raw_path)
            allowed = [*methods, "HEAD"] if _READING in methods else methods
            raise MethodNotAllowed.taking(unquote(raw_path)[:200], allowed)
        return route, [*named]

    def _find(self, raw_path: str) -> Iterator[tuple[dict[str, Route], list[str]]]:
        """The first match; where that has no parameter, its last word may be somebody's name: the next one, too."""
        spelled = [unquote(part) for part in raw_path.split("/") if part]
        for parts, methods in self._paths.items():
            if (named := _matched(parts, spelled)) is not None:
                yield methods, named
                if named:
                    return


def _matched(parts: tuple[str, ...], spelled: list[str]) -> list[str] | None:
    """What stands in the place of the path's parameter, if it has one; None where it is another path."""
    at = next((number for number, part in enumerate(parts) if part.startswith("{")), None)
    if at is None:
        return [] if list(parts) == spelled else None
    after = len(parts) - at - 1
    if len(spelled) < len(parts) or tuple(spelled[:at]) != parts[:at]:
        return None
    if tuple(spelled[len(spelled) - after :]) != parts[at + 1 :]:
        return None
    return ["/".join(spelled[at : len(spelled) - after])]


def _particular(route: Route) -> tuple[bool, int]:
    """Paths without a parameter come first, then the longer ones."""
    return "{" in route.path, -len(route.parts)
