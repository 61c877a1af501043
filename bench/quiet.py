"""Whether others were at work while something was measured.

Owns one loop that always takes the same work. It runs before and after each turn: where it was slow, a neighbour took
the processor, the caches or the clock, and the turn says nothing. What is slow is told by the other runs: the fastest
quarter of them is what the machine does when it is let.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

STEPS = 200_000
"""About 14 ms."""
TRIES = 3
"""The best of so many: one alone meets an interrupt often."""
TOLERANCE = 1.25
"""Times the quick runs: clocks of processors vary by themselves."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Seconds of the loop before and after a turn."""

    before: float
    after: float

    @property
    def slowest(self) -> float:
        return max(self.before, self.after)


def calibrate() -> float:
    return min(_loop() for _ in range(TRIES))


def _loop() -> float:
    begun = time.perf_counter()
    total = 0
    for step in range(STEPS):
        total += step
    return time.perf_counter() - begun


def is_quiet(turn: Calibration, all_turns: Iterable[Calibration]) -> bool:
    """By the slowest run of the fastest quarter of `all_turns`, of which there is at least one."""
    runs = sorted(run for one in all_turns for run in (one.before, one.after))
    return turn.slowest <= runs[(len(runs) - 1) // 4] * TOLERANCE
