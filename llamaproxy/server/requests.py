"""What operators ask about requests: the list, one of them, and sums; and the end of one that is in flight.

What can be asked, and what is none, is said in `telemetry.query` and `telemetry.usage`; how a request ends that is
cancelled, in `flights`, `proxy` and `splice`.
"""

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from llamaproxy.errors import NotFound
from llamaproxy.server.answers import json_response
from llamaproxy.server.flights import Flights
from llamaproxy.server.progress import Progress
from llamaproxy.telemetry import query, usage
from llamaproxy.telemetry.history import History
from llamaproxy.telemetry.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Cancelled:
    """How many requests were ended: clients may name theirs alike."""

    cancelled: int


@dataclass(frozen=True, slots=True)
class UsagePage:
    """Sums in the order of `by`; `since` in seconds since the epoch. `per_minute`: what ended in the last minute.

    Percentiles such as `ttfb_ms_p95` are of the newest 10,000 rows that match.
    """

    by: tuple[str, ...]
    since: float
    usage: list[dict[str, Any]]
    per_minute: dict[str, Any]


class Requests:
    """Handlers for `/api/requests` and `/api/usage`."""

    def __init__(self, history: History, flights: Flights, traffic: Traffic, progress: Progress) -> None:
        self._history = history
        self._progress = progress
        self._flights = flights
        self._traffic = traffic

    async def page(self, request: web.Request) -> web.Response:
        """One page of rows, and counts of all requests since the start. `next` is the `before` of the next page."""
        page = await self._history.page(query.parse(request.query), self._progress.shown)
        return json_response({"totals": self._totals(), "requests": page.rows, "next": page.next})

    async def one(self, request: web.Request, request_id: str) -> web.Response:
        """The newest with this id. Raises NotFound."""
        row = await self._history.find(request_id, self._progress.shown)
        if row is None:
            raise NotFound(f"there is no request {request_id[:128]!r}")
        return json_response(row)

    async def cancel(self, request: web.Request, request_id: str) -> web.Response:
        """End what is in flight under this id, queued, loading or streaming; answers at once. Raises NotFound."""
        count = self._flights.cancel(request_id)
        if not count:
            raise NotFound(f"no request {request_id[:128]!r} is in flight")
        return json_response(Cancelled(count))

    async def usage(self, request: web.Request) -> web.Response:
        """Sums by model, key and day (UTC), in the order that `by` names them, and what ended in the last minute."""
        groups = usage.parse_groups(request.query.get("by", "model"))
        since = usage.parse_since(request.query.get("since", "0"))
        sums = await self._history.usage(groups, since)
        return json_response(UsagePage(groups, since, sums, self._traffic.per_minute()))

    def _totals(self) -> dict[str, int]:
        ledger = self._history.ledger
        ended = {state.value: count for state, count in ledger.ended.items()}
        return {"received": ledger.received, "in_flight": ledger.in_flight, **ended}
