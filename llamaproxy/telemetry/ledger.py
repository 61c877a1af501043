"""The ledger: one row for every request that reached the gateway.

Owns the rows and the law of conservation: received = ok + client_abort + upstream_error + rejected + truncated + in
flight, at any moment. Kept in memory, bounded. Holds no prompt, no answer and no key.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

ROWS_KEPT = 1000


class RequestState(StrEnum):
    """How a request ended; every one but IN_FLIGHT is final."""

    IN_FLIGHT = "in_flight"
    OK = "ok"
    CLIENT_ABORT = "client_abort"
    UPSTREAM_ERROR = "upstream_error"
    REJECTED = "rejected"
    TRUNCATED = "truncated"


@dataclass(slots=True)
class RequestRow:
    """`started_at` in seconds since the epoch; the `_ms` fields in milliseconds, None until known.

    `bytes_in` and `bytes_out` are those of the bodies, the latter as it was sent, with the framing of its chunks.
    """

    id: str
    endpoint: str
    dialect: str
    client: str
    started_at: float = field(default_factory=time.time)
    model: str | None = None
    stream: bool = False
    status: int | None = None
    state: RequestState = RequestState.IN_FLIGHT
    queue_ms: float | None = None
    load_ms: float | None = None
    ttfb_ms: float | None = None
    duration_ms: float | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    replays: int = 0

    def sent(self, count: int) -> None:
        """So many bytes of the answer were given to the client's connection."""
        self.bytes_out += count


class Ledger:
    """Rows of requests in flight and of the last ones that ended, and counts of all."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[int, tuple[RequestRow, float]] = {}
        self._ended: deque[RequestRow] = deque(maxlen=ROWS_KEPT)
        self.received = 0
        self.ended: Counter[RequestState] = Counter()

    def open(self, row: RequestRow) -> RequestRow:
        self.received += 1
        self._open[id(row)] = (row, self._clock())
        return row

    def first_byte(self, row: RequestRow) -> None:
        row.ttfb_ms = self._elapsed_ms(row)

    def close(self, row: RequestRow, state: RequestState, status: int | None) -> None:
        """End a row; exactly once for each."""
        row.duration_ms = self._elapsed_ms(row)
        del self._open[id(row)]
        row.state, row.status = state, status
        self.ended[state] += 1
        self._ended.append(row)

    def rows(self, limit: int) -> list[dict[str, Any]]:
        """In flight first, then the newest."""
        in_flight = [row for row, _ in self._open.values()]
        newest = list(self._ended)[::-1]
        return [_shown(row) for row in (in_flight + newest)[:limit]]

    @property
    def in_flight(self) -> int:
        return len(self._open)

    def _elapsed_ms(self, row: RequestRow) -> float:
        return (self._clock() - self._open[id(row)][1]) * 1000


def _shown(row: RequestRow) -> dict[str, Any]:
    """With times that can be read."""
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(row).items()}
