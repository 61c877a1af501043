"""What operators see of a request's bodies, while captures are on.

Reads and deletes. What is kept, and for how long, is said in `telemetry.captures`.
"""

import asyncio

from aiohttp import web
from pydantic import BaseModel

from llamaproxy.errors import NotFound
from llamaproxy.server.answers import json_response
from llamaproxy.telemetry.captures import Captures
from llamaproxy.telemetry.redaction import REDACTION


class ShownBody(BaseModel):
    """The two ends of a body of so many `bytes`; `last` is null where `first` is all of it."""

    bytes: int
    omitted: int
    first: str
    last: str | None


class ShownCapture(BaseModel):
    """`started_at` in seconds since the epoch. What looks like a secret is masked."""

    id: str
    model: str | None
    started_at: float
    request: ShownBody
    response: ShownBody


class Forgotten(BaseModel):
    success: bool


class CaptureRoutes:
    """Handlers for `/api/requests/{id}/capture` and `/api/captures`."""

    def __init__(self, captures: Captures) -> None:
        self._captures = captures

    async def one(self, request: web.Request, request_id: str) -> web.Response:
        """Raises NotFound."""
        if (capture := self._captures.find(request_id)) is None:
            raise _missing(request_id)
        return json_response(await asyncio.to_thread(capture.shown, REDACTION.redact))

    async def forget(self, request: web.Request, request_id: str) -> web.Response:
        """Raises NotFound."""
        if not self._captures.delete(request_id):
            raise _missing(request_id)
        return json_response({"success": True})

    async def clear(self, request: web.Request) -> web.Response:
        """Forget all of them."""
        self._captures.clear()
        return json_response({"success": True})


def _missing(request_id: str) -> NotFound:
    return NotFound(
        f"nothing was captured of a request {request_id[:128]!r}; telemetry.captures has them kept, but for WebSockets"
    )
