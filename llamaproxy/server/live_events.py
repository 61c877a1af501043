"""What a page may ask for over its WebSocket: the routes of /api by other names.

Owns the names, and the way from a message to a route. Nothing is done here that a route does not do: what it takes,
checks and answers is said once, in the table of `api`.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web
from yarl import URL

from llamaproxy.core.envelope import Ask
from llamaproxy.errors import InvalidRequest, UnknownEvent
from llamaproxy.server.routes import Routes

_ACTIONS = ("start", "stop", "restart", "pin", "unpin", "reset-breaker")

EVENTS: Mapping[str, tuple[str, str]] = {
    "models:list": ("GET", "/api/models"),
    "models:get": ("GET", "/api/models/{name}"),
    "models:create": ("POST", "/api/models"),
    "models:update": ("PATCH", "/api/models/{name}"),
    "models:delete": ("DELETE", "/api/models/{name}"),
    **{f"models:{action}": ("POST", f"/api/models/{{name}}/{action}") for action in _ACTIONS},
    "metrics:get": ("GET", "/api/system"),
    "metrics:history": ("GET", "/api/system/history"),
    "logs:get": ("GET", "/api/logs"),
    "logs:clear": ("DELETE", "/api/logs"),
    "config:get": ("GET", "/api/config"),
    "config:update": ("PATCH", "/api/config"),
    "settings:get": ("GET", "/api/settings"),
    "settings:update": ("PATCH", "/api/settings"),
    "llama:status": ("GET", "/api/models"),
    "llama:start": ("POST", "/api/models/{name}/start"),
    "llama:stop": ("POST", "/api/models/{name}/stop"),
    "llama:restart": ("POST", "/api/models/{name}/restart"),
    "llama:rescan": ("POST", "/api/models/scan"),
    "system:info": ("GET", "/api/system"),
    "system:health": ("GET", "/api/health"),
    "requests:list": ("GET", "/api/requests"),
    "requests:cancel": ("DELETE", "/api/requests/{id}"),
    "usage:get": ("GET", "/api/usage"),
    "keys:list": ("GET", "/api/keys"),
}
"""Method and path of each. What stands in the path is taken from the data; the rest of these is the query of a GET or
DELETE, and the body of any other."""

_NAMED = re.compile(r"\{(\w+)\}")


class Events:
    """Answers what is asked, by the table of routes."""

    def __init__(self, api: Routes) -> None:
        self._api = api

    async def answer(self, request: web.Request, ask: Ask) -> bytes:
        """The route's own answer, as JSON. Raises UnknownEvent, InvalidRequest, and what the route does.

        `request` is the one that opened the WebSocket: who asks is who opened it.
        """
        if ask.event not in EVENTS:
            raise UnknownEvent(f"there is no event {ask.event!r}")
        method, template = EVENTS[ask.event]
        rest = dict(ask.data)
        path = _NAMED.sub(lambda found: quote(_name(rest.pop(found[1], None), found[1]), safe=""), template)
        if method in ("GET", "DELETE"):
            path, rest = f"{path}?{_query(rest)}" if rest else path, {}
        inner = request.clone(method=method, rel_url=URL(path, encoded=True))
        response = await self._api.perform(inner, rest)
        return response.body if isinstance(response, web.Response) and isinstance(response.body, bytes) else b"null"


def _name(value: object, field: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"`{field}` must be a text", param=field)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"`{field}` must be a text", param=field) from error
    return value


def _query(data: Mapping[str, Any]) -> str:
    return urlencode({name: _spelled(value, name) for name, value in data.items() if value is not None})


def _spelled(value: object, field: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise InvalidRequest(f"`{field[:64]}` must be a text, a number, true or false", param=field[:64])
    return str(value)
