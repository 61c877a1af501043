"""The row of each request that goes to a model: opened when it comes, closed with how it ended.

Owns which end is which state. What stands in a row meanwhile is for those to say who find out.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from llamaproxy.core.routing import Dialect
from llamaproxy.errors import (
    GatewayError,
    GatewayTimeout,
    ModelOutOfMemory,
    ModelStartFailed,
    RequestCancelled,
    UpstreamError,
)
from llamaproxy.server import quota
from llamaproxy.server.flights import Flights
from llamaproxy.server.passthrough import ClientGone
from llamaproxy.server.splice import Outcome
from llamaproxy.server.stamp import request_id
from llamaproxy.telemetry.ledger import Ledger, RequestRow, RequestState

_OK = 200


class Rows:
    """Opens and closes; each row exactly once."""

    def __init__(self, ledger: Ledger, flights: Flights) -> None:
        self._ledger = ledger
        self._flights = flights

    def open(self, request: web.Request, endpoint: str, dialect: Dialect) -> RequestRow:
        row = RequestRow(request_id(request), endpoint, str(dialect), request.remote or "")
        row.key = quota.key_name(request)
        self._ledger.open(row)
        self._flights.begin(row, request)
        return row

    @contextmanager
    def recorded(self, request: web.Request, endpoint: str, dialect: Dialect) -> Iterator[RequestRow]:
        """An open row, which is closed where an error ends it. Whoever answers closes it otherwise."""
        row = self.open(request, endpoint, dialect)
        try:
            yield row
        except BaseException as error:  # whatever ends a request ends its row, a cancellation too
            self.close_failed(row, error)
            raise

    def answered(self, row: RequestRow) -> None:
        """It needed no answer of an engine."""
        self._flights.end(row)
        self._ledger.close(row, RequestState.OK, _OK)

    def close(self, row: RequestRow, outcome: Outcome) -> None:
        self._flights.end(row)
        if broken := outcome.broken:
            state = RequestState.REJECTED if isinstance(broken, RequestCancelled) else RequestState.TRUNCATED
            self._ledger.close(row, state, outcome.status, broken.code)
        else:
            state = RequestState.UPSTREAM_ERROR if outcome.status >= 500 else RequestState.OK
            self._ledger.close(row, state, outcome.status)

    def close_failed(self, row: RequestRow, error: BaseException) -> None:
        if self._flights.end(row) and isinstance(error, asyncio.CancelledError):
            self._ledger.close(row, RequestState.REJECTED, RequestCancelled.status, RequestCancelled.code)
        elif isinstance(error, UpstreamError | GatewayTimeout | ModelStartFailed | ModelOutOfMemory):
            self._ledger.close(row, RequestState.UPSTREAM_ERROR, error.status, error.code)
        elif isinstance(error, GatewayError):
            self._ledger.close(row, RequestState.REJECTED, error.status, error.code)
        elif isinstance(error, asyncio.CancelledError | ClientGone):
            self._ledger.close(row, RequestState.CLIENT_ABORT, None)
        else:
            self._ledger.close(row, RequestState.UPSTREAM_ERROR, 500, GatewayError.code)
