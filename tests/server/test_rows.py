"""Every end of a request is one state of its row, and each row is closed once."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from llamaproxy.core.routing import Dialect
from llamaproxy.errors import (
    GatewayError,
    InvalidRequest,
    ModelOutOfMemory,
    ModelStartFailed,
    QueueFull,
    RequestCancelled,
    UpstreamError,
    UpstreamStalled,
)
from llamaproxy.server.flights import Flights
from llamaproxy.server.passthrough import ClientGone
from llamaproxy.server.rows import Rows
from llamaproxy.server.splice import Outcome
from llamaproxy.telemetry.ledger import Ledger, RequestRow, RequestState
from tests.server.mocked import mocked_request


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def rows(ledger: Ledger) -> Rows:
    return Rows(ledger, Flights())


def opened(rows: Rows) -> RequestRow:
    return rows.open(mocked_request("POST", "/"), "api/chat", Dialect.OLLAMA)


def state(row: RequestRow) -> tuple[RequestState, int | None]:
    return row.state, row.status


async def test_a_row_is_open_until_it_is_closed(rows: Rows, ledger: Ledger) -> None:
    row = opened(rows)
    assert (row.endpoint, row.dialect, ledger.in_flight) == ("api/chat", "ollama", 1)
    assert type(row.dialect) is str, "which is stored as it is"
    rows.answered(row)
    assert state(row) == (RequestState.OK, 200)
    assert ledger.in_flight == 0


@pytest.mark.parametrize(
    ("status", "broken", "expected"),
    [
        (200, None, RequestState.OK),
        (404, None, RequestState.OK),
        (500, None, RequestState.UPSTREAM_ERROR),
        (200, UpstreamError("gone"), RequestState.TRUNCATED),
        (200, RequestCancelled("ended"), RequestState.REJECTED),
    ],
)
async def test_answers(rows: Rows, status: int, broken: GatewayError | None, expected: RequestState) -> None:
    row = opened(rows)
    rows.close(row, Outcome(web.Response(), status, broken))
    assert state(row) == (expected, status)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InvalidRequest("bad"), (RequestState.REJECTED, 400)),
        (QueueFull("full"), (RequestState.REJECTED, 429)),
        (UpstreamError("gone"), (RequestState.UPSTREAM_ERROR, 502)),
        (UpstreamStalled("silent"), (RequestState.UPSTREAM_ERROR, 504)),
        (ModelStartFailed("no"), (RequestState.UPSTREAM_ERROR, 503)),
        (ModelOutOfMemory("no"), (RequestState.UPSTREAM_ERROR, 503)),
        (asyncio.CancelledError(), (RequestState.CLIENT_ABORT, None)),
        (ClientGone(), (RequestState.CLIENT_ABORT, None)),
        (ZeroDivisionError(), (RequestState.UPSTREAM_ERROR, 500)),
    ],
)
async def test_failures(rows: Rows, error: BaseException, expected: tuple[RequestState, Any]) -> None:
    request = mocked_request("POST", "/")
    with pytest.raises(type(error)), rows.recorded(request, "api/chat", Dialect.OLLAMA) as row:
        raise error
    assert state(row) == expected


async def test_what_ends_well_is_closed_by_who_answers(rows: Rows, ledger: Ledger) -> None:
    with rows.recorded(mocked_request("POST", "/"), "api/chat", Dialect.OLLAMA) as row:
        pass
    assert row.state is RequestState.IN_FLIGHT
    rows.answered(row)
    assert ledger.ended == {RequestState.OK: 1}


async def test_one_that_an_operator_cancelled_is_no_abort(ledger: Ledger) -> None:
    flights = Flights()
    rows = Rows(ledger, flights)
    row = opened(rows)
    assert flights.cancel(row.id) == 1
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    rows.close_failed(row, asyncio.CancelledError())
    assert state(row) == (RequestState.REJECTED, 499)
