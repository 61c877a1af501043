"""Rows of requests that were refused at the door: by the guard, or because nothing is there.

Owns how many of them there are. Every one is counted; a row gets one a second, and a hundred at once: whoever floods
the gateway with bad keys shall see that in the rows, and not fill the database.
"""

import time
from collections.abc import Callable

from aiohttp import web

from llamaproxy.core import routing
from llamaproxy.errors import GatewayError
from llamaproxy.server.stamp import request_id
from llamaproxy.telemetry.ledger import Ledger, RequestRow, RequestState
from llamaproxy.telemetry.traffic import Traffic

ROWS_AT_ONCE = 100
ROWS_PER_SECOND = 1.0
UNKNOWN = "unknown"
"""The endpoint of a row, where the path is none."""


class Refusals:
    """Told of every request that got no further."""

    def __init__(self, ledger: Ledger, traffic: Traffic, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._traffic = traffic
        self._clock = clock
        self._room, self._looked_at = float(ROWS_AT_ONCE), clock()

    def tell(self, request: web.Request, path: str, error: GatewayError) -> None:
        """`path` is normalised. What is asked of the gateway itself has no rows, refused or not."""
        name = _endpoint(path)
        if name is None:
            return
        self._traffic.refused(error.status)
        if self._has_room():
            row = RequestRow(request_id(request), name, str(routing.dialect_of(path)), request.remote or "")
            self._ledger.close(self._ledger.open(row), RequestState.REJECTED, error.status, error.code)

    def _has_room(self) -> bool:
        now = self._clock()
        self._room = min(ROWS_AT_ONCE, self._room + (now - self._looked_at) * ROWS_PER_SECOND)
        self._looked_at = now
        if self._room < 1:
            return False
        self._room -= 1
        return True


def _endpoint(path: str) -> str | None:
    """As rows name it; None where they do not know it."""
    if path.startswith("/upstream/"):
        return "upstream"
    _, endpoint = routing.resolve(path)
    if endpoint:
        return endpoint.name
    return UNKNOWN if path.startswith("/v1/") and not path.startswith("/v1/models") else None
