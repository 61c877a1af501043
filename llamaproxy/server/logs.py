"""What operators see of the log, and how much of it there is.

Reads, apart from `clear`, which says what it does. What can be asked is said in `telemetry.logquery`; the level is one
of the settings (`adjust`).
"""

from aiohttp import web
from pydantic import BaseModel

from llamaproxy.server.answers import json_response
from llamaproxy.telemetry import logquery
from llamaproxy.telemetry.logs import Logs
from llamaproxy.telemetry.redaction import REDACTION


class ShownLine(BaseModel):
    """`id` is its place in the order of lines: the microseconds since the epoch, or one more than the line before.
    `timestamp` in seconds since the epoch.

    `source` is a part of the gateway, or "engine" for what the engine of `model` has printed; `context` is a traceback.
    """

    id: int
    timestamp: float
    level: str
    source: str
    model: str | None
    request_id: str | None
    message: str
    context: str | None


class LogPage(BaseModel):
    """`next` is the `before` of the next page, or, where `after` was asked for, the next `after`. A page of a
    search may be short, or empty, before the end: null says that nothing older is there.

    `rows_dropped`, `file_lines_dropped` and `stderr_lines_dropped` count the lines that the database, the files in
    `directory` and stderr did not get.
    """

    logs: list[ShownLine]
    next: int | None
    lines: int
    followers: int
    rows_dropped: int
    directory: str | None
    file_lines_dropped: int
    stderr_lines_dropped: int


class Cleared(BaseModel):
    success: bool


class LogRoutes:
    """Handlers for `/api/logs`."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    async def page(self, request: web.Request) -> web.Response:
        """Raises InvalidRequest."""
        query = logquery.parse(request.query)
        edge = await self._logs.edge(query)
        entries = await self._logs.page(query if edge is None else query.within(edge))
        shown = [line for entry in entries if query.is_seen_in(line := entry.shown(REDACTION.redact))]
        return json_response({"logs": shown, "next": query.following(entries, edge), **self._logs.health()})

    async def clear(self, request: web.Request) -> web.Response:
        """Forget all lines, in memory and in the database; files stay."""
        self._logs.clear()
        return json_response({"success": True})
