"""How much memory a process takes while something goes on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_INTERVAL = 0.01
"""Seconds."""


class Peak:
    """Bytes: when it began, and at most since then."""

    def __init__(self, before: int) -> None:
        self.before = self.most = before

    @property
    def growth(self) -> int:
        return self.most - self.before


@asynccontextmanager
async def peak(measure: Callable[[], int]) -> AsyncIterator[Peak]:
    """Looks every few milliseconds, and once more at the end."""
    seen = Peak(measure())

    async def look() -> None:
        while True:
            seen.most = max(seen.most, measure())
            await asyncio.sleep(_INTERVAL)

    async with asyncio.TaskGroup() as group:
        looking = group.create_task(look())
        yield seen
        seen.most = max(seen.most, measure())
        looking.cancel()
