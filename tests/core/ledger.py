"""The world's own books of memory: how large each model is thought to be, and who fits beside whom.

Sizes are bytes of RAM, then of each device. Reckoned from the contract, and not from the scheduler's books.
"""

from collections.abc import Iterable

from llamaproxy.config import LimitsConfig

Size = tuple[int, ...]
UNKNOWN: Size = (0,)


def larger(one: Size, other: Size) -> Size:
    """In each part."""
    width = max(len(one), len(other))
    padded = [size + (0,) * (width - len(size)) for size in (one, other)]
    return tuple(map(max, *padded))


class Ledger:
    """`company` is how many neighbours a model may have at its start, once it has died of having more."""

    def __init__(self, limits: LimitsConfig) -> None:
        self.limits = limits
        self.sizes: dict[str, Size] = {}
        self.measured: set[str] = set()
        self.company: dict[str, int] = {}
        self.died_of_it: set[str] = set()
        self.held: dict[str, Size] = {}

    def estimate(self, model: str, size: Size) -> None:
        if model not in self.measured:
            self.sizes[model] = size

    def measure(self, model: str, size: Size, loading: bool) -> None:
        """What is measured of a process that loads is not the whole; one of before says nothing about the model."""
        if model in self.held:
            self.held[model] = larger(self.held[model], size)
        elif model in self.measured or (loading and model in self.sizes):
            self.sizes[model] = larger(self.sizes[model], size)
        else:
            self.sizes[model] = size
            self.measured.add(model)

    def starve(self, model: str, neighbours: int) -> None:
        """A start died for want of memory."""
        self.company[model] = max(0, neighbours - 1)
        if model in self.sizes:
            self.sizes[model] = tuple(min(2**53, int(part * 1.25)) for part in self.sizes[model])
            self.measured.add(model)

    def forget(self, model: str, has_process: bool) -> None:
        """The model is another one now; the process, if there is one, is what it was."""
        if has_process:
            self.held.setdefault(model, self.sizes.get(model, UNKNOWN))
        self.sizes.pop(model, None)
        self.company.pop(model, None)
        self.measured.discard(model)
        self.died_of_it.discard(model)

    def exited(self, model: str) -> None:
        self.held.pop(model, None)

    def needs(self, model: str) -> list[int]:
        """A place, RAM, and each device that has a budget; what has run fits alone."""
        size = self.held.get(model) or self.sizes.get(model, UNKNOWN)
        needs = [1, *size, *[0] * len(self._budgets)][: len(self._budgets)]
        if model in self.measured and model not in self.held:
            needs = [int(min(pair)) for pair in zip(needs, self._budgets, strict=True)]
        return needs

    def overdrawn(self, models: Iterable[str]) -> list[bool]:
        """Which budgets these exceed together."""
        sums = [sum(column) for column in zip(*map(self.needs, models), strict=True)]
        return [total > budget for total, budget in zip(sums, self._budgets, strict=False)]

    def too_much(self, model: str, others: Iterable[str]) -> bool:
        """Whether there is too little of what the model needs when it is beside these."""
        beyond = self.overdrawn([model, *others])
        return any(need and over for need, over in zip(self.needs(model), beyond, strict=True))

    def fits(self, model: str, others: list[str]) -> bool:
        """Whether the model may be started beside these."""
        return not self.too_much(model, others) and len(others) <= self.company.get(model, len(others))

    def disturbs(self, newcomers: int, loading: Iterable[str]) -> bool:
        """Whether so many backends in all are more company than those bear who are about to start, or do."""
        return any(newcomers - 1 > self.company.get(model, newcomers) for model in loading)

    @property
    def _budgets(self) -> list[float]:
        limits = self.limits
        return [limits.models_max, limits.memory_budget or float("inf"), *limits.vram_budgets]
