"""The last lines of the log in memory.

Pure. Owns the bounds: each source, the gateway or the engine of one model, has a ring of its own, so that a talkative
engine pushes out its own lines only.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import islice

from llamaproxy.telemetry.logline import ENGINE, LogEntry
from llamaproxy.telemetry.logquery import LogQuery

LINES = 2000
CHARACTERS = 1024**2
"""Of one ring."""
RINGS = 32
"""The one that was silent for longest goes first."""


class LogRing:
    """Entries, of each source the newest. `dropped` counts those that are here no more."""

    def __init__(self, lines: int = LINES, characters: int = CHARACTERS, rings: int = RINGS) -> None:
        self._bounds = lines, characters, rings
        self._rings: OrderedDict[str | None, _Ring] = OrderedDict()
        self.dropped = 0

    def put(self, entry: LogEntry) -> None:
        lines, characters, _ = self._bounds
        source = entry.model if entry.source == ENGINE else None
        ring = self._rings.get(source) or self._begin(source)
        self._rings.move_to_end(source)
        self.dropped += ring.put(entry, lines, characters)

    def _begin(self, source: str | None) -> "_Ring":
        """A ring for who has none, in the place of the most silent one where there are too many."""
        if len(self._rings) >= self._bounds[2]:
            _, silent = self._rings.popitem(last=False)
            self.dropped += len(silent.entries)
        ring = self._rings[source] = _Ring()
        return ring

    def clear(self) -> None:
        self._rings.clear()

    def select(self, query: LogQuery) -> Iterator[LogEntry]:
        """What may stand on this page, ring by ring."""
        for ring in self._rings.values():
            yield from ring.select(query)

    def parts(self) -> "list[_Ring]":
        """Ring by ring, for who looks long: what is asked of one of them is soon done."""
        return list(self._rings.values())

    def __len__(self) -> int:
        return sum(len(ring.entries) for ring in self._rings.values())


class _Ring:
    """One source's."""

    __slots__ = ("characters", "entries")

    def __init__(self) -> None:
        self.entries: deque[LogEntry] = deque()
        self.characters = 0

    def put(self, entry: LogEntry, lines: int, characters: int) -> int:
        """How many had to go for it. An entry that is alone stays."""
        entries = self.entries
        entries.append(entry)
        self.characters += _size(entry)
        gone = 0
        while len(entries) > lines or (self.characters > characters and len(entries) > 1):
            self.characters -= _size(entries.popleft())
            gone += 1
        return gone

    def select(self, query: LogQuery) -> Iterator[LogEntry]:
        ordered = self.entries if query.forward else reversed(self.entries)
        return islice(filter(query.matches, ordered), query.limit)


def _size(entry: LogEntry) -> int:
    return len(entry.message) + len(entry.context or "")
