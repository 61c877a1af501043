"""Tables of what was measured, and the marks it is held to. Pure: nothing is measured or printed here."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

QUIET = 10.0
"""Percent of the machine that others may take before wall-clock is in doubt."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run of one server. Names of values end in their unit; those without one are counts."""

    peer: str
    values: Mapping[str, float]
    round: int = 1


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that should hold, and whether it did."""

    text: str
    met: bool

    def __str__(self) -> str:
        return f"{'met   ' if self.met else 'MISSED'}  {self.text}"


@dataclass(frozen=True, slots=True)
class Result:
    """What one scenario came to."""

    title: str
    rows: Sequence[Row]
    marks: Sequence[Mark] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        rows = [{"peer": row.peer, "round": row.round, **_finite(row.values)} for row in self.rows]
        return {"title": self.title, "rows": rows, "marks": [{"text": m.text, "met": m.met} for m in self.marks]}

    def __str__(self) -> str:
        return "\n".join([self.title, *table(self.rows), *(str(mark) for mark in self.marks)])


def table(rows: Sequence[Row]) -> list[str]:
    """Lines, in columns as wide as they must be; a value that a row has not is left out."""
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    cells = [["", "round", *names]]
    cells += [[row.peer, str(row.round), *(_cell(name, row.values.get(name)) for name in names)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(_aligned(line, widths)).rstrip() for line in cells]


def _aligned(line: Sequence[str], widths: Sequence[int]) -> Iterable[str]:
    first, *others = zip(line, widths, strict=True)
    yield first[0].ljust(first[1])
    yield from (cell.rjust(width) for cell, width in others)


def _cell(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    if name.endswith("_s"):
        return f"{value:.2f}"
    return f"{value:.1f}" if name.endswith("_ms") else f"{value:.0f}"


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def of(rows: Iterable[Row], peer: str, name: str) -> list[float]:
    """What a server had of one value, in every round."""
    return [row.values[name] for row in rows if row.peer == peer and name in row.values]


def at_most(rows: Sequence[Row], peer: str, name: str, limit: float) -> Mark:
    """In every round."""
    worst = max(of(rows, peer, name))
    return Mark(f"{name} of {peer}: {_cell(name, worst)}, at most {limit:g}", worst <= limit)


def all_of(rows: Sequence[Row], peer: str, name: str, count: float) -> Mark:
    """In every round."""
    worst = min(of(rows, peer, name))
    return Mark(f"{name} of {peer}: {_cell(name, worst)} of {count:g}", worst >= count)


def ratio(rows: Sequence[Row], peers: tuple[str, str], name: str, limit: float) -> Mark:
    """Of the best rounds of both: a neighbour on the machine only ever adds. Says so, where even these had one."""
    first, second = best = [
        min((row for row in rows if row.peer == peer), key=lambda row: row.values[name]) for peer in peers
    ]
    share = first.values[name] / second.values[name] if second.values[name] else math.inf
    others = max(row.values.get("others_pct", 0.0) for row in best)
    doubt = f" (worth little: others took {others:.0f} % of the machine)" if others > QUIET else ""
    return Mark(f"{name}, {peers[0]} to {peers[1]}: {share:.2f}, at most {limit:g}{doubt}", share <= limit)
