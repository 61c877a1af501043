"""Counters and histograms in memory, and their page.

Owns the numbers and how they are written. A child (one series, or one histogram) is looked up once and then kept by
who counts: counting is an addition. Decides nothing about names and their values: whoever asks for a child has bounded
them.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Generic, Protocol, TypeVar

from llamaproxy.telemetry.exposition import head, number, series


class Child(Protocol):
    """What a family is made of."""

    def text(self) -> str:
        """Its lines."""


C = TypeVar("C", bound=Child)


class Counter:
    """Add to `value`, never take away."""

    __slots__ = ("_series", "value")

    def __init__(self, name: str, labels: tuple[str, ...], values: tuple[str, ...]) -> None:
        self._series = series(name, labels, values)
        self.value = 0

    def text(self) -> str:
        return f"{self._series} {self.value}\n"


class Histogram:
    """Counts by upper bound, the bound included."""

    __slots__ = ("_bounds", "_counts", "_sum", "_template", "_text")

    def __init__(self, name: str, labels: tuple[str, ...], values: tuple[str, ...], bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._text = ""
        # One operation writes all lines: a page of a hundred models has thousands.
        limits = [*map(number, bounds), "+Inf"]
        names = [series(f"{name}_bucket", (*labels, "le"), (*values, limit)) for limit in limits]
        ends = (series(f"{name}_{end}", labels, values) for end in ("sum", "count"))
        self._template = "".join(f"{line.replace('%', '%%')} %s\n" for line in (*names, *ends))

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value
        self._text = ""

    def observe_all(self, values: list[float]) -> None:
        """Many at once: sorted, they are looked for once for each bound they reach."""
        values.sort()
        below = 0
        for at, bound in enumerate(self._bounds):
            if below == len(values):
                break
            reached = bisect_right(values, bound, below)
            self._counts[at] += reached - below
            below = reached
        self._counts[-1] += len(values) - below
        self._sum += sum(values)
        self._text = ""

    def text(self) -> str:
        """Made once for each time it is another one: of a hundred models few are used between two looks."""
        if not self._text:
            cumulated = tuple(accumulate(self._counts))
            self._text = self._template % (*cumulated, number(self._sum), cumulated[-1])
        return self._text


class Family(Generic[C]):
    """All children of one name."""

    def __init__(
        self,
        name: str,
        kind: str,
        about: str,
        labels: tuple[str, ...],
        make: Callable[[str, tuple[str, ...], tuple[str, ...]], C],
    ) -> None:
        self.name = name
        self.labels = labels
        self._head = head(name, kind, about)
        self._make = make
        self._children: dict[tuple[str, ...], C] = {}

    def child(self, *values: str) -> C:
        """The one with these values of the labels; it begins with the first question."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._make(self.name, self.labels, values)
        return child

    def keep(self, label: str, wanted: Callable[[str], bool]) -> None:
        """Forget children whose value of `label` is not wanted any more, if the family has this label."""
        if label in self.labels:
            at = self.labels.index(label)
            self._children = {values: child for values, child in self._children.items() if wanted(values[at])}

    def text(self) -> str:
        """Its lines, without any where nothing was counted."""
        return self._head + "".join([child.text() for child in self._children.values()]) if self._children else ""


def counters(name: str, about: str, *labels: str) -> Family[Counter]:
    return Family(name, "counter", about, labels, Counter)


def histograms(name: str, about: str, bounds: Sequence[float], *labels: str) -> Family[Histogram]:
    """`bounds` are upper ones, growing; one without end is added."""
    return Family(name, "histogram", about, labels, lambda n, ls, vs: Histogram(n, ls, vs, bounds))
