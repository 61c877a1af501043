"""The machine's past, coarser the older it is.

Pure. Owns three tiers of averages: the last hour in steps of 10 s, the last day in minutes, the last week in steps of
10 minutes. Each has a fixed number of steps. Times are those of the wall clock, in seconds since the epoch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llamaproxy.errors import InvalidRequest

COLUMNS = (
    *("cpu_percent", "load", "memory_used", "memory_total", "swap_used", "disk_used", "disk_total"),
    *("received_rate", "sent_rate", "gpu_percent", "gpu_memory_used", "gpu_memory_total", "gpu_temperature"),
    *("gpu_power", "active_models", "in_flight", "queued", "requests_per_minute", "tokens_per_minute", "uptime"),
    "generation_per_second",
)
"""Of a sample. Bytes, bytes a second, percents, degrees Celsius, watts, seconds, tokens; None is not known."""

STEP = 10
"""Seconds between two samples."""
TIERS: Mapping[str, tuple[int, int]] = {"1h": (STEP, 360), "24h": (60, 1440), "7d": (600, 1008)}
"""By range: seconds of a step, and how many steps are kept."""

Row = tuple[Any, ...]
"""Step in seconds, its beginning, how many samples it has, and their averages as `COLUMNS`."""


def parse_range(text: str) -> str:
    """Raises InvalidRequest."""
    if text not in TIERS:
        raise InvalidRequest(f"`range` must be one of {', '.join(TIERS)}", param="range")
    return text


@dataclass(slots=True)
class _Step:
    """Sums of samples. A value that is not known does not count for its average."""

    samples: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(COLUMNS))
    counts: list[int] = field(default_factory=lambda: [0] * len(COLUMNS))
    averages: tuple[float | None, ...] = ()

    def add(self, values: Sequence[float | None], samples: int = 1) -> None:
        self.samples += samples
        for at, value in enumerate(values):
            if value is not None:
                self.sums[at] += value * samples
                self.counts[at] += samples
        pairs = zip(self.sums, self.counts, strict=True)
        self.averages = tuple([round(total / count, 3) if count else None for total, count in pairs])


class Series:
    """Samples go in at `add`; what the database has kept of earlier processes at `load`."""

    def __init__(self) -> None:
        self._tiers: dict[int, dict[int, _Step]] = {step: {} for step, _ in TIERS.values()}

    def add(self, at: float, values: Sequence[float | None]) -> list[Row]:
        """The steps that are others now, one of each tier."""
        return [self._add(step, most, at, values) for step, most in TIERS.values()]

    def load(self, rows: Iterable[Row]) -> None:
        """Where a step is there already, the one that knows more is right."""
        for step, at, samples, *values in rows:
            tier = self._tiers.get(step)
            if tier is not None and (at not in tier or tier[at].samples < samples):
                tier[at] = _Step()
                tier[at].add(values, samples)
        for step, most in TIERS.values():
            _shorten(self._tiers[step], most)

    def columns(self, name: str, now: float) -> dict[str, Sequence[float | None]]:
        """The steps of a range that ends at `now`, the oldest first: `timestamp`, when each began, and `COLUMNS`."""
        step, most = TIERS[name]
        tier = self._tiers[step]
        times = sorted(at for at in tier if now - step * most < at <= now)
        columns = zip(*[tier[at].averages for at in times], strict=True) if times else [()] * len(COLUMNS)
        return {"timestamp": times, **dict(zip(COLUMNS, columns, strict=True))}

    def _add(self, step: int, most: int, at: float, values: Sequence[float | None]) -> Row:
        tier = self._tiers[step]
        begin = int(at // step * step)
        if begin not in tier:
            tier[begin] = _Step()
        tier[begin].add(values)
        row = (step, begin, tier[begin].samples, *tier[begin].averages)
        _shorten(tier, most)
        return row


def _shorten(tier: dict[int, _Step], most: int) -> None:
    for begin in sorted(tier)[: max(0, len(tier) - most)]:
        del tier[begin]
