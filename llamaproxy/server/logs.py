"""What operators see of the log, and how much of it there is.

Reads, apart from `clear` and `change_level`, which say what they do. What can be asked is said in `telemetry.logquery`.
"""

import orjson
from aiohttp import web

from llamaproxy.errors import InvalidJson, InvalidRequest, UnsupportedMediaType
from llamaproxy.server import body
from llamaproxy.server.answers import json_response
from llamaproxy.telemetry import logline, logquery
from llamaproxy.telemetry.logs import Logs
from llamaproxy.telemetry.redaction import REDACTION

_LARGEST_BODY = 1024
_BODY_TIMEOUT = 10.0
"""Seconds: the body is one word."""


class LogRoutes:
    """Handlers for `/api/logs` and `/api/logs/level`."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    async def page(self, request: web.Request) -> web.Response:
        """`next` is the `before` of the next page, or, where `after` was asked for, the next `after`."""
        query = logquery.parse(request.query)
        entries = await self._logs.page(query)
        following = entries[-1].id if entries and (query.forward or len(entries) == query.limit) else None
        if query.forward and following is None:
            following = query.after
        shown = [entry.shown(REDACTION.redact) for entry in entries]
        return json_response({"logs": shown, "next": following, **self._logs.health()})

    async def clear(self, request: web.Request) -> web.Response:
        """Forget all lines, in memory and in the database; files stay."""
        self._logs.clear()
        return json_response({"success": True})

    async def level(self, request: web.Request) -> web.Response:
        return json_response({"level": logline.level_in_force()})

    async def change_level(self, request: web.Request) -> web.Response:
        """Until the next start, or until the configured level becomes another one."""
        if request.content_type != "application/json":
            raise UnsupportedMediaType("the body must be sent as application/json")
        try:
            content = orjson.loads(await body.read(request, _LARGEST_BODY, _BODY_TIMEOUT))
        except orjson.JSONDecodeError as error:
            raise InvalidJson(f"the body is not valid JSON: {error}") from error
        if not isinstance(content, dict):
            raise InvalidRequest("the body must be an object with a `level`")
        logline.set_level(logline.level_name(logquery.parse_level(content.get("level"))))
        return await self.level(request)
