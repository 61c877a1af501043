"""The ledger: one row for every request that reached the gateway.

Owns the rows of requests in flight, those of the last ones that ended, and the law of conservation: received = ok +
client_abort + upstream_error + rejected + truncated + in flight, at any moment. Holds no prompt, no answer and no key.
Writes nothing itself, because it is on the way of every request: `journal` and `writer` are told.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import attrgetter
from typing import Any

ROWS_KEPT = 1000
NULL = math.nan
"""What SQLite stores as NULL, and JSON as null."""


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
    """`started_at` in seconds since the epoch; the `_ms` fields in milliseconds, the `_tps` ones in tokens a second.
    None is not known, or not yet.

    `key` is the name of a key, `backend` says which process or server answered. `bytes_in` and `bytes_out` are those
    of the bodies, the latter as it was sent, with the framing of its chunks. `error` is the code of the gateway's own
    error; an answer of the engine that is one has none. `number` counts the requests of this process, `begun` is when
    it came by the ledger's clock, `slot` is the row's place in the journal, -1 for none: none of them is shown.
    """

    id: str
    endpoint: str
    dialect: str
    client: str
    started_at: float = field(default_factory=time.time)
    model: str | None = None
    key: str | None = None
    backend: str | None = None
    stream: bool = False
    status: int | None = None
    state: RequestState = RequestState.IN_FLIGHT
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    queue_ms: float | None = None
    load_ms: float | None = None
    ttfb_ms: float | None = None
    duration_ms: float | None = None
    prompt_tps: float | None = None
    generation_tps: float | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    replays: int = 0
    error: str | None = None
    number: int = 0
    begun: float = 0.0
    slot: int = -1

    def sent(self, count: int) -> None:
        """So many bytes of the answer were given to the client's connection."""
        self.bytes_out += count

    def shown(self) -> dict[str, Any]:
        """With numbers that can be read."""
        cells = (round(value, 3) if type(value) is float else value for value in values(self))
        return dict(zip(FIELDS, cells, strict=True))


FIELDS = tuple(field.name for field in fields(RequestRow) if field.name not in ("number", "begun", "slot"))
"""What is shown of a row, and kept."""
values = attrgetter(*FIELDS)
"""The fields of a row, in this order."""


def stored(run: int, row: RequestRow) -> tuple[str | float | None, ...]:
    """The same as they are written, after the numbers of process and row: plain texts and numbers, because SQLite's
    binding looks for an adapter for everything else. So what most rows have not is `NULL`, other values that are not
    known stay None.

    Spelled out, because each request needs it twice: `values` takes twice as long.
    """
    return (
        run,
        row.number,
        row.id,
        row.endpoint,
        row.dialect,
        row.client,
        row.started_at,
        row.model,
        NULL if row.key is None else row.key,
        row.backend,
        1 if row.stream else 0,
        row.status,
        row.state._value_,
        row.prompt_tokens,
        row.cached_tokens,
        row.completion_tokens,
        row.queue_ms,
        row.load_ms,
        row.ttfb_ms,
        row.duration_ms,
        row.prompt_tps,
        row.generation_tps,
        row.bytes_in,
        row.bytes_out,
        row.replays,
        NULL if row.error is None else row.error,
    )


Told = Callable[[RequestRow], object]


class Ledger:
    """Rows of requests in flight and of the last ones that ended, and counts of all.

    `answering` hears of a row before anything of an answer reaches its client, `ended` when it is complete; neither
    may wait or raise.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        answering: Told = lambda row: None,
        ended: Told = lambda row: None,
    ) -> None:
        self._clock = clock
        self._answering = answering
        self._tell_ended = ended
        self._open: dict[int, RequestRow] = {}
        self.recent: deque[RequestRow] = deque(maxlen=ROWS_KEPT)
        self.received = 0
        self.ended: Counter[RequestState] = Counter()

    def open(self, row: RequestRow) -> RequestRow:
        self.received = row.number = self.received + 1
        row.begun = self._clock()
        self._open[row.number] = row
        return row

    def first_byte(self, row: RequestRow) -> None:
        row.ttfb_ms = self.elapsed_ms(row)
        self._answering(row)

    def close(self, row: RequestRow, state: RequestState, status: int | None, error: str | None = None) -> None:
        """End a row; exactly once for each. `error` is the code of one."""
        del self._open[row.number]
        row.duration_ms = self.elapsed_ms(row)
        row.state, row.status, row.error = state, status, error
        self.ended[state] += 1
        self.recent.append(row)
        self._tell_ended(row)

    def in_flight_rows(self) -> list[RequestRow]:
        return [*self._open.values()]

    @property
    def in_flight(self) -> int:
        return len(self._open)

    def elapsed_ms(self, row: RequestRow) -> float:
        """How long a row in flight has been so."""
        return (self._clock() - row.begun) * 1000
