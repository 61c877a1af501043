"""Rows for the tests of this folder."""

from typing import Any

from llamaproxy.telemetry import ledger
from llamaproxy.telemetry.ledger import RequestRow, RequestState


def ended(number: int, **fields: Any) -> RequestRow:
    """One that has ended well, a second after the one before it, long ago."""
    fields = {"started_at": 1_000_000.0 + number, "state": RequestState.OK, "status": 200, **fields}
    return RequestRow(f"r-{number}", "chat/completions", "openai", "127.0.0.1", number=number, **fields)


def cells(row: RequestRow, run: int = 1) -> tuple[Any, ...]:
    """As the database gives it back."""
    return tuple(None if cell is ledger.NULL else cell for cell in ledger.stored(run, row))
