"""What operators see of a request's bodies, while captures are on.

Reads and deletes. What is kept, and for how long, is said in `telemetry.captures`.
"""

import asyncio

from aiohttp import web

from llamaproxy.errors import MethodNotAllowed, NotFound
from llamaproxy.server.answers import json_response
from llamaproxy.telemetry.captures import Captures
from llamaproxy.telemetry.redaction import REDACTION

PREFIX, SUFFIX = "/api/requests/", "/capture"
"""What stands before and after a request's id in the path."""


def names_one(path: str) -> bool:
    """Whether this is the path of a capture."""
    return path.startswith(PREFIX) and path.endswith(SUFFIX) and len(path) > len(PREFIX) + len(SUFFIX)


class CaptureRoutes:
    """Handlers for `/api/requests/{id}/capture`, and for all captures."""

    def __init__(self, captures: Captures) -> None:
        self._captures = captures

    async def one(self, request: web.Request, path: str) -> web.Response:
        """Raises NotFound or MethodNotAllowed."""
        request_id = path.removeprefix(PREFIX).removesuffix(SUFFIX)
        if request.method == "DELETE":
            if not self._captures.delete(request_id):
                raise _missing(request_id)
            return json_response({"success": True})
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed.taking(path, ("GET", "DELETE"))
        if (capture := self._captures.find(request_id)) is None:
            raise _missing(request_id)
        return json_response(await asyncio.to_thread(capture.shown, REDACTION.redact))

    async def clear(self, request: web.Request) -> web.Response:
        """Forget all of them."""
        self._captures.clear()
        return json_response({"success": True})


def _missing(request_id: str) -> NotFound:
    return NotFound(f"nothing was captured of a request {request_id[:128]!r}; telemetry.captures switches it on")
