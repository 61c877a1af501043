"""Rows that wait for the database, in a bounded buffer.

Pure. Owns the bound and what happens at it: the oldest row goes, and is counted, because the newest are those that
somebody looks for.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from llamaproxy.telemetry.ledger import RequestRow

MOST_ROWS = 20_000
"""Rows of a minute with 300 requests a second, about 30 MB."""


class Spool:
    """First in, first out. `waiting` counts the rows, `lost` those that had to go."""

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._rows: deque[RequestRow] = deque()
        self._taken: Sequence[RequestRow] = ()
        self._most = most
        self.waiting = 0
        self.lost = 0

    def put(self, row: RequestRow) -> RequestRow | None:
        """The row that had to go for it, if one had to."""
        self._rows.append(row)
        if self.waiting < self._most:
            self.waiting += 1
            return None
        self.lost += 1
        return self._rows.popleft()

    def take(self, most: int) -> Sequence[RequestRow]:
        """The oldest. They still count until they are `done`, and are the same again until then."""
        if not self._taken:
            self._taken = [self._rows.popleft() for _ in range(min(most, len(self._rows)))]
        return self._taken

    def done(self) -> None:
        """What was taken need not wait any more."""
        self.waiting -= len(self._taken)
        self._taken = ()

    def __len__(self) -> int:
        return self.waiting

    def __iter__(self) -> Iterator[RequestRow]:
        yield from self._taken
        yield from self._rows
