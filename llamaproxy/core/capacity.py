"""What backends take of the machine: a place each, RAM, and memory of the devices.

Pure arithmetic over backends. Decides nothing: `room` asks who fits, and when, and acts on the answer.
"""

import math
from collections.abc import Iterable
from typing import Self

from llamaproxy.config import LimitsConfig
from llamaproxy.core.backend import Backend
from llamaproxy.core.states import BackendState


class Capacity:
    """What is left of places and budgets when `taken` have theirs; a budget that is not set has no end.

    What was measured counts up to its budget: what has run fits alone, however large it was.
    """

    def __init__(self, limits: LimitsConfig, taken: Iterable[Backend] = ()) -> None:
        self._limits = limits
        self._total = (float(limits.models_max), float(limits.memory_budget or math.inf), *limits.vram_budgets)
        self._left = list(self._total)
        self._neighbours = 0
        for backend in taken:
            self.take(backend)

    def fits(self, backend: Backend) -> bool:
        return (backend.company is None or self._neighbours <= backend.company) and self.affords(backend)

    def affords(self, backend: Backend) -> bool:
        """Whether places and memory are enough, whoever is beside it; what it does not need cannot be too little."""
        return all(need <= max(left, 0) for need, left in self._demands(backend))

    @property
    def overdrawn(self) -> bool:
        return any(left < 0 for left in self._left)

    def relieved_by(self, victim: Backend) -> bool:
        """Whether it takes any of what is overdrawn."""
        return any(left < 0 < need for need, left in self._demands(victim))

    def take(self, backend: Backend) -> None:
        self._move(backend, 1)

    def shield(self, backend: Backend, among: "Capacity") -> None:
        """Leave no place that would bring it more company at its start than it bears; `among` counts those it has."""
        if backend.company is not None:
            self._left[0] = min(self._left[0], backend.company + 1 - among._neighbours)

    def give(self, *backends: Backend) -> Self:
        """These will be gone."""
        for backend in backends:
            self._move(backend, -1)
        return self

    def copy(self) -> "Capacity":
        other = Capacity(self._limits)
        other._left, other._neighbours = self._left.copy(), self._neighbours
        return other

    def bound_by(self, other: "Capacity") -> None:
        """Of everything the less."""
        self._left = list(map(min, self._left, other._left))

    def _move(self, backend: Backend, sign: int) -> None:
        self._neighbours += sign
        for index, (need, left) in enumerate(self._demands(backend)):
            self._left[index] = left - sign * need

    def _demands(self, backend: Backend) -> list[tuple[float, float]]:
        """What it takes of each, beside what is left of that; a device without a budget is nobody's business."""
        known = backend.takes
        needs: Iterable[float] = (1, known.ram, *known.devices)
        if backend.measured:
            needs = map(min, needs, self._total)
        return list(zip(needs, self._left, strict=False))


class Plan:
    """Room at three times: `free` now, `promised` once those who stop are gone, `later` once those who drain are."""

    def __init__(self, limits: LimitsConfig, live: Iterable[Backend]) -> None:
        live = list(live)
        self.free = Capacity(limits, live)
        self.promised = self.free.copy().give(*(b for b in live if b.state is BackendState.STOPPING))
        self.later = self.promised.copy().give(*(b for b in live if b.state is BackendState.DRAINING))
        for backend in live:
            if backend.state is BackendState.STARTING:
                self.free.shield(backend, self.free)

    def promise(self, backend: Backend, victims: Iterable[Backend]) -> bool:
        """It gets room as soon as the victims have gone; True where there is enough already.

        Who must not come beside one that is about to start has room promised all the same, and nobody goes for it.
        """
        for capacity in (self.promised, self.later):
            capacity.give(*victims).take(backend)
        starts = self.free.fits(backend)
        if starts:
            self.free.take(backend)
        self.free.shield(backend, self.free if starts else self.promised)
        return starts

    def keep_for(self, backend: Backend) -> None:
        """It waits for others to leave; what it will need besides is nobody else's until then."""
        self.later.take(backend)
        self.later.shield(backend, self.later)
        self.promised.bound_by(self.later)
