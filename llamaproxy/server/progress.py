"""How far a request in flight has come.

Reads what the row, the scheduler and the meter know already, when somebody asks: nothing is kept for it while bytes
pass.
"""

from enum import StrEnum
from typing import Any

from llamaproxy.backends.pool import Pool
from llamaproxy.core.states import BackendState
from llamaproxy.server.flights import Flights
from llamaproxy.telemetry.ledger import Ledger, RequestRow, RequestState


class Phase(StrEnum):
    """QUEUED: it waits for a place; LOADING: its model starts; PROMPT: the engine has it and has not begun to answer,
    as it is with a whole answer to its end; GENERATING: the answer comes."""

    QUEUED = "queued"
    LOADING = "loading"
    PROMPT = "prompt"
    GENERATING = "generating"


class Progress:
    """Shows rows with what is not in them before they end."""

    def __init__(self, ledger: Ledger, flights: Flights, pool: Pool) -> None:
        self._ledger = ledger
        self._flights = flights
        self._pool = pool

    def shown(self, row: RequestRow) -> dict[str, Any]:
        """One that has ended has no phase."""
        shown = row.shown()
        if row.state is not RequestState.IN_FLIGHT:
            return shown
        tokens = self._flights.tokens(row)
        return {
            **shown,
            "phase": self._phase(row, tokens),
            "completion_tokens": tokens or None,
            "duration_ms": round(self._ledger.elapsed_ms(row), 3),
        }

    def _phase(self, row: RequestRow, tokens: int | None) -> Phase:
        if row.ttfb_ms is not None:
            return Phase.PROMPT if tokens == 0 and row.stream else Phase.GENERATING
        if tokens is not None:
            return Phase.PROMPT
        backend = self._pool.backends.get(row.model or "")
        return Phase.LOADING if backend and backend.state is BackendState.STARTING else Phase.QUEUED
