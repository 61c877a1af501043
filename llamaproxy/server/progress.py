"""How far a request in flight has come.

Reads what the row, the scheduler and the meter know already, when somebody asks: nothing is kept for it while bytes
pass.
"""

import time
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
        phase, elapsed = self._phase(row, tokens), self._ledger.elapsed_ms(row)
        return {
            **shown,
            **self._waits(row, phase, elapsed),
            "phase": phase,
            "completion_tokens": tokens or None,
            "duration_ms": round(elapsed, 3),
        }

    def _waits(self, row: RequestRow, phase: Phase, elapsed: float) -> dict[str, float]:
        """So far, of one that waits; of one whose engine died, what it had waited before is known and stays."""
        if phase not in (Phase.QUEUED, Phase.LOADING):
            return {}
        loading = self._loading_ms(row) if phase is Phase.LOADING else 0.0
        waited = min(elapsed, loading)
        queued = elapsed - waited if row.queue_ms is None else row.queue_ms
        return {"queue_ms": round(queued, 3), "load_ms": round((row.load_ms or 0.0) + waited, 3)}

    def _loading_ms(self, row: RequestRow) -> float:
        """Since its model's start began."""
        return max(0.0, time.monotonic() - self._pool.backends[row.model or ""].started_at) * 1000

    def _phase(self, row: RequestRow, tokens: int | None) -> Phase:
        if row.ttfb_ms is not None:
            return Phase.PROMPT if tokens == 0 and row.stream else Phase.GENERATING
        if tokens is not None:
            return Phase.PROMPT
        backend = self._pool.backends.get(row.model or "")
        return Phase.LOADING if backend and backend.state is BackendState.STARTING else Phase.QUEUED
