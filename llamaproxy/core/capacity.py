"""What backends take of the machine: a place each, RAM, and memory of the devices.

Pure arithmetic over backends. Decides nothing: `room` asks who fits, and when, and acts on the answer.
"""

import math
from collections.abc import Iterable
from typing import Self

from llamaproxy.config import LimitsConfig
from llamaproxy.core.backend import Backend
from llamaproxy.core.footprint import Footprint
from llamaproxy.core.states import BackendState


class Capacity:
    """What is left of places and budgets when `taken` have theirs; a budget that is not set has no end."""

    def __init__(self, limits: LimitsConfig, taken: Iterable[Backend] = ()) -> None:
        self._left = [float(limits.models_max), float(limits.memory_budget or math.inf), *limits.vram_budgets]
        self._neighbours = 0
        for backend in taken:
            self.take(backend)

    def fits(self, backend: Backend) -> bool:
        return (backend.company is None or self._neighbours <= backend.company) and self.affords(backend)

    def affords(self, backend: Backend) -> bool:
        """Whether places and memory are enough, whoever is beside it."""
        return all(need <= left for need, left in zip(_needs(backend), self._left, strict=False))

    @property
    def overdrawn(self) -> bool:
        return any(left < 0 for left in self._left)

    def take(self, backend: Backend) -> None:
        self._move(backend, 1)

    def give(self, *backends: Backend) -> Self:
        """These will be gone."""
        for backend in backends:
            self._move(backend, -1)
        return self

    def copy(self) -> "Capacity":
        other = object.__new__(Capacity)
        other._left, other._neighbours = self._left.copy(), self._neighbours
        return other

    def bound_by(self, other: "Capacity") -> None:
        """Of everything the less."""
        self._left = list(map(min, self._left, other._left))

    def _move(self, backend: Backend, sign: int) -> None:
        self._neighbours += sign
        for index, need in enumerate(_needs(backend)[: len(self._left)]):
            self._left[index] -= sign * need


class Plan:
    """Room at three times: `free` now, `promised` once those who stop are gone, `later` once those who drain are."""

    def __init__(self, limits: LimitsConfig, live: Iterable[Backend]) -> None:
        live = list(live)
        self.free = Capacity(limits, live)
        self.promised = self.free.copy().give(*(b for b in live if b.state is BackendState.STOPPING))
        self.later = self.promised.copy().give(*(b for b in live if b.state is BackendState.DRAINING))

    def promise(self, backend: Backend, victims: Iterable[Backend]) -> bool:
        """It gets room as soon as the victims have gone; True where there is enough already."""
        for capacity in (self.promised, self.later):
            capacity.give(*victims).take(backend)
        if not self.free.fits(backend):
            return False
        self.free.take(backend)
        return True

    def keep_for(self, backend: Backend) -> None:
        """It waits for a drain; what it will need besides is nobody else's until then."""
        self.later.take(backend)
        self.promised.bound_by(self.later)


def _needs(backend: Backend) -> tuple[int, ...]:
    known = backend.footprint or Footprint()
    return (1, known.ram, *known.devices)
