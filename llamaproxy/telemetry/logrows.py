"""Entries of the log on their way into the database.

Owns a bounded queue in front of the one task that writes: where that cannot keep up, the oldest entries are left out
and counted, and nobody waits. Entries are redacted before they are written. How long they are kept is said here, too.
"""

from collections import deque
from collections.abc import Callable

from llamaproxy.telemetry.logline import LogEntry, Redact, bounded
from llamaproxy.telemetry.logquery import INSERT
from llamaproxy.telemetry.store import PRUNED_AT_ONCE, Store

MOST_WAITING = 1000
MOST_KEPT = 50_000
"""Entries in the database: some 10 MB."""


class LogRows:
    """A sideline of the writer."""

    def __init__(self, redact: Redact, most_waiting: int = MOST_WAITING, most_kept: int = MOST_KEPT) -> None:
        self._redact = redact
        self._most_waiting, self._most_kept = most_waiting, most_kept
        self._waiting: deque[LogEntry] = deque()
        self._forget: int | None = None
        self.wake: Callable[[], object] = lambda: None
        self.dropped = 0

    def put(self, entry: LogEntry) -> None:
        self._waiting.append(entry)
        if len(self._waiting) > self._most_waiting:
            self._waiting.popleft()
            self.dropped += 1
        if len(self._waiting) == 1:
            self.wake()

    def clear(self, last: int) -> None:
        """Delete all entries up to this one."""
        self._waiting.clear()
        self._forget = last
        self.wake()

    def __len__(self) -> int:
        return len(self._waiting) + (self._forget is not None)

    async def write(self, store: Store) -> None:
        """All of it; what fails to be written waits on."""
        if (last := self._forget) is not None:
            await store.delete("DELETE FROM log_lines WHERE timestamp <= ?", (last,))
            if self._forget == last:
                self._forget = None
        taken, self._waiting = self._waiting, deque()
        try:
            self.dropped += await store.insert([self._cells(entry) for entry in taken], INSERT)
        except BaseException:  # cancelled at the end, too: what was taken is not written yet
            if self._forget is None:
                self._put_back(taken)
            raise

    async def prune(self, store: Store, horizon: float) -> bool:
        """What is too old, and the oldest where there are too many."""
        nth = "SELECT timestamp FROM log_lines ORDER BY timestamp DESC LIMIT 1 OFFSET ?"
        old = f"SELECT timestamp FROM log_lines WHERE timestamp < ? OR timestamp <= ({nth}) ORDER BY timestamp LIMIT ?"
        values = (int(horizon * 1e6), self._most_kept, PRUNED_AT_ONCE)
        return await store.delete(f"DELETE FROM log_lines WHERE timestamp IN ({old})", values) == PRUNED_AT_ONCE

    def _put_back(self, taken: deque[LogEntry]) -> None:
        """Before those that came meanwhile, as far as there is room."""
        room = self._most_waiting - len(self._waiting)
        self.dropped += max(0, len(taken) - room)
        self._waiting.extendleft(list(reversed(taken))[:room])

    def _cells(self, entry: LogEntry) -> tuple[object, ...]:
        context = entry.context and self._redact(entry.context)
        return (*entry[:3], bounded(entry.message, self._redact), entry.model, entry.request_id, context)
