"""A load test: closed loops of clients, one level after the other, each target in turn at every level.

Owns the order, where a step begins and ends, and what there is when somebody stops it. A client asks again as soon as
it has its answer.
"""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llamaproxy.loadtest.answer import Answer, Clock
from llamaproxy.loadtest.figures import Figures, summarise
from llamaproxy.loadtest.plan import Level, Plan
from llamaproxy.loadtest.target import Asker, Target


@dataclass(frozen=True, slots=True)
class Step:
    """What was measured; `busy` is the share of a processor core that asking took, `stopped` that it was cut short."""

    target: Target
    level: Level
    figures: Figures
    busy: float
    stopped: bool = False


class Sweep:
    """`steps` are there whenever somebody looks, and however it ends."""

    def __init__(self, plan: Plan, targets: Sequence[Target], clock: Clock = time.monotonic) -> None:
        self.steps: list[Step] = []
        self._plan = plan
        self._targets = targets
        self._clock = clock
        self._numbers = itertools.count()
        self._answers: list[Answer] = []
        self._now = "warming up"

    @property
    def progress(self) -> str:
        """One line."""
        total = len(self._plan.levels()) * len(self._targets)
        return f"{len(self.steps)} of {total} steps; {self._now}, {len(self._answers)} answers"

    async def warm_up(self) -> tuple[Target, Answer] | None:
        """Requests that are not counted, one after the other; the first that fails, if any does."""
        level = replace(self._plan.levels()[0], clients=1)
        for target in self._targets:
            async with Asker(target, self._plan.timeout, self._clock) as asker:
                for _ in range(self._plan.warmup):
                    answer = await self._ask(asker, target, level)
                    if answer.fault:
                        return target, answer
        return None

    async def run(self) -> None:
        """May be cancelled at any time."""
        for level in self._plan.levels():
            for target in self._targets:
                self._now = f"{target.url}, clients: {level.clients}"
                await self._step(target, level)

    async def _step(self, target: Target, level: Level) -> None:
        self._answers = []
        before, begun = time.process_time(), time.monotonic()
        stopped = True
        try:
            async with Asker(target, self._plan.timeout, self._clock) as asker:
                await self._clients(asker, target, level)
            stopped = False
        finally:
            busy = (time.process_time() - before) / max(1e-9, time.monotonic() - begun)
            self.steps.append(Step(target, level, summarise(self._answers), busy, stopped))

    async def _clients(self, asker: Asker, target: Target, level: Level) -> None:
        """As many loops as there are clients; they share the requests that are left."""
        end = self._clock() + self._plan.seconds
        left = iter(range(self._plan.requests))

        async def one() -> None:
            while self._clock() < end and next(left, None) is not None:
                self._answers.append(await self._ask(asker, target, level))

        await asyncio.gather(*(one() for _ in range(level.clients)))

    async def _ask(self, asker: Asker, target: Target, level: Level) -> Answer:
        return await asker.chat(self._plan.body(target.model, level, next(self._numbers)))
