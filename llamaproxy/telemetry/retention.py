"""How old a row may become, on clocks that may be wrong.

Pure. A row's age is told by the wall clock, which somebody may set, and which starts anywhere on a machine without a
battery. Rows that were deleted do not come back when it is set right, so it is believed only as far as the time that
this process has run, and a little more.
"""

from dataclasses import dataclass

_SLACK = 0.1
"""Of the retention: how much a clock is believed beyond what can be known. At most so much of the rows goes early."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """What is known at a start. `wall` and `newest`, the time of the newest row if there is one, in seconds since the
    epoch, `steady` by a clock that nobody sets.

    A gateway that was off for long keeps its rows longer by as much: they age while it runs.
    """

    wall: float
    steady: float
    newest: float | None

    def horizon(self, wall: float, steady: float, retention: float) -> float:
        """Rows that started before it may go; in seconds since the epoch."""
        known = self.wall if self.newest is None else min(self.wall, self.newest)
        latest = known + (steady - self.steady) + _SLACK * retention
        return min(wall, latest) - retention
