"""From samples to tables: what is kept, its minimum and its median, and the ratio to nginx. Pure.

A neighbour on the machine only ever adds: so the minimum is what it costs, and the median says how far to trust that.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.quiet import Calibration, is_quiet

REFERENCE = "nginx"
DIRECT = "direct"
_NAME, _CELL = 28, 9


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn, of the first round or a later one. Names of figures begin or end with their unit."""

    scenario: str
    candidate: str
    round: int
    figures: Mapping[str, float]
    calibration: Calibration
    requests: int = 0
    failures: int = 0
    short: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """One figure of one candidate. `caveat`: why turns count that should not, where there are no others."""

    candidate: str
    figure: str
    least: float
    median: float
    kept: int
    of: int
    caveat: str

    def ratio(self, reference: "Summary | None") -> float | None:
        """Of the minima, where there is something to compare to."""
        return self.least / reference.least if reference and reference.least > 0 else None


def added(samples: Sequence[Sample]) -> list[Sample]:
    """Less the direct way's figures of the same round; without the direct way itself."""
    direct = {(one.scenario, one.round): one.figures for one in samples if one.candidate == DIRECT}
    return [
        replace(one, figures={name: value - base.get(name, 0.0) for name, value in one.figures.items()})
        for one in samples
        if one.candidate != DIRECT and (base := direct.get((one.scenario, one.round)))
    ]


def summarise(samples: Sequence[Sample], figure: str, all_turns: Iterable[Calibration]) -> list[Summary]:
    """In the order of first appearance; `all_turns` of the whole run tell which were quiet."""
    turns = list(all_turns)
    names = dict.fromkeys(sample.candidate for sample in samples)
    return [_summary([one for one in samples if one.candidate == name], figure, turns) for name in names]


def _summary(samples: Sequence[Sample], figure: str, turns: Sequence[Calibration]) -> Summary:
    good = [one for one in samples if not one.failures]
    quiet = [one for one in good if is_quiet(one.calibration, turns)]
    values = [one.figures[figure] for one in quiet or good or samples]
    caveat = "" if quiet else "disturbed" if good else "failed"
    least, median = min(values), statistics.median(values)
    return Summary(samples[0].candidate, figure, least, median, len(quiet), len(samples), caveat)


def table(title: str, figures: Sequence[tuple[str, Sequence[Summary]]]) -> list[str]:
    """Lines: `figures` are titles with one summary for each candidate, in the same order everywhere."""
    lines = [title, " " * _NAME + "".join(f"{name:>{3 * _CELL}}" for name, _ in figures)]
    lines.append(" " * _NAME + "".join(f"{word:>{_CELL}}" for _ in figures for word in ("min", "median", "x nginx")))
    for row in zip(*(summaries for _, summaries in figures), strict=True):
        cells = "".join(map(_cells, row, (reference(summaries) for _, summaries in figures)))
        lines.append(f"{row[0].candidate:<{_NAME}}{cells}  {_kept(row[0])}".rstrip())
    return lines


def reference(summaries: Sequence[Summary]) -> Summary | None:
    return next((one for one in summaries if one.candidate == REFERENCE), None)


def _cells(one: Summary, base: Summary | None) -> str:
    ratio = one.ratio(base)
    compared = "-" if ratio is None else f"{ratio:.2f}"
    return "".join(f"{cell:>{_CELL}}" for cell in (number(one.least), number(one.median), compared))


def _kept(one: Summary) -> str:
    return one.caveat or ("" if one.kept == one.of else f"{one.kept} of {one.of} kept")


def number(value: float) -> str:
    """With as many digits as mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def complaints(samples: Iterable[Sample]) -> list[str]:
    """Lines about what did not come as it should: figures beside it are to be read with care."""
    return [
        f"  {one.scenario}, round {one.round}: {one.candidate}: {one.failures} failures and {one.short} short answers"
        f" of {one.requests}"
        for one in samples
        if one.failures or one.short
    ]
