"""How fast a count grows, from looks at it now and then.

Pure. Owns the difference of two looks and nothing else.
"""


class Throughput:
    """`per_second` is that between the last two looks; None before there are two."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self.per_second: float | None = None

    def look(self, count: float, now: float) -> None:
        """`now` in seconds of any clock. A count that shrinks has not grown: what was on its way came to nothing."""
        if self._last:
            at, before = self._last
            if now <= at:
                return
            self.per_second = max(0.0, count - before) / (now - at)
        self._last = now, count
