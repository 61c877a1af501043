"""llamaproxy.backends.alarm: one timer, which is set anew and rings once."""

import asyncio
import time

from llamaproxy import scope
from llamaproxy.backends.alarm import Alarm
from tests.gateway import PATIENCE


class Bell:
    """Counts how often it rang, and for which request."""

    def __init__(self) -> None:
        self.rung: list[str | None] = []
        self.heard = asyncio.Event()
        self.alarm = Alarm(self.ring)

    def ring(self) -> None:
        self.rung.append(scope.request_id.get())
        self.heard.set()

    async def rings(self) -> None:
        await asyncio.wait_for(self.heard.wait(), PATIENCE)
        self.heard.clear()


async def test_it_rings_once_for_each_time_that_is_set() -> None:
    bell = Bell()
    for _ in range(2):
        bell.alarm.set(time.monotonic())
        await bell.rings()
    assert len(bell.rung) == 2


async def test_the_time_that_was_set_last_counts() -> None:
    bell = Bell()
    bell.alarm.set(time.monotonic() + 3600)
    bell.alarm.set(time.monotonic() + 0.01)
    await bell.rings()
    assert len(bell.rung) == 1


async def test_never_is_never() -> None:
    bell, other = Bell(), Bell()
    now = time.monotonic()
    bell.alarm.set(now)
    bell.alarm.set(None)
    other.alarm.set(now)
    await other.rings()
    assert bell.rung == []


async def test_the_same_time_may_be_set_again_when_it_has_rung() -> None:
    bell, past = Bell(), time.monotonic()
    for _ in range(2):
        bell.alarm.set(past)
        bell.alarm.set(past)
        await bell.rings()
    assert len(bell.rung) == 2


async def test_it_rings_for_nobody() -> None:
    bell = Bell()
    scope.request_id.set("r")
    bell.alarm.set(time.monotonic())
    await bell.rings()
    assert bell.rung != ["r"]
