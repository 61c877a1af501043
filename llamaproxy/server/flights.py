"""Requests in flight, so that an operator can end one of them.

Owns which task serves which row, and what tells a request that was cancelled here from one whose client left: both
come as CancelledError. How an exchange ends is `proxy`'s and `splice`'s business.
"""

import asyncio
import logging
from typing import Any, Protocol

from aiohttp import web

from llamaproxy.errors import GatewayError, RequestCancelled
from llamaproxy.telemetry.ledger import RequestRow

log = logging.getLogger(__name__)

_CANCELLED = web.RequestKey("cancelled", bool)


class Metered(Protocol):
    """One try of a request, at an engine."""

    @property
    def tokens(self) -> int:
        """That passed so far."""


class Flights:
    """The tasks of all rows in flight, and their tries; one entry in a dictionary for each."""

    def __init__(self) -> None:
        self._tasks: dict[int, tuple[RequestRow, web.Request, asyncio.Task[Any] | None]] = {}
        self._tries: dict[int, Metered] = {}
        self._cancelled: set[int] = set()
        self._generated = 0

    def begin(self, row: RequestRow, request: web.Request) -> None:
        """The task that runs now serves this request."""
        self._tasks[row.number] = (row, request, asyncio.current_task())

    def end(self, row: RequestRow) -> bool:
        """Whether it was cancelled from here."""
        number = row.number
        del self._tasks[number]
        if number not in self._cancelled:
            return False
        self._cancelled.remove(number)
        return True

    def begin_try(self, row: RequestRow, metered: Metered) -> None:
        """An engine has it."""
        self._tries[row.number] = metered

    def end_try(self, row: RequestRow) -> None:
        """It has it no more; the row says what it has generated."""
        del self._tries[row.number]
        self._generated += row.completion_tokens or 0

    def tokens(self, row: RequestRow) -> int | None:
        """That passed so far; None where no engine has the request."""
        metered = self._tries.get(row.number)
        return metered.tokens if metered else None

    @property
    def generated(self) -> int:
        """Tokens that passed so far, of all answers there ever were."""
        return self._generated + sum(metered.tokens for metered in self._tries.values())

    def cancel(self, request_id: str) -> int:
        """End all that have this id: clients may name theirs alike. Returns how many there are."""
        found = [entry for entry in self._tasks.values() if entry[0].id == request_id]
        for row, request, task in found:
            if task and row.number not in self._cancelled:
                self._cancelled.add(row.number)
                request[_CANCELLED] = True
                task.cancel()
                log.info("request %s: cancelled by an operator", request_id)
        return len(found)


def is_cancelled(request: web.Request) -> bool:
    """Whether somebody has ended it from here."""
    return _CANCELLED in request


def reason(request: web.Request, raised: GatewayError | asyncio.CancelledError) -> GatewayError:
    """What to tell the client. Raises the CancelledError of a client that left: there is nobody to be told."""
    if isinstance(raised, GatewayError):
        return raised
    if not is_cancelled(request):
        raise raised
    if task := asyncio.current_task():
        task.uncancel()
    return RequestCancelled("the request was cancelled by an operator of the gateway")
