"""What one request says about its backend, to an office that the test plays."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from llamaproxy.backends.lease import Lease
from llamaproxy.backends.life import Life
from llamaproxy.core.events import LeaseReleased, Outcome, RequestArrived
from llamaproxy.errors import QueueFull


class Desk:
    """Grants at once, or after `wait` seconds of which the last `loading` ones went into the start of the backend."""

    def __init__(self, wait: float = 0.0, loading: float = 0.0, refusal: Exception | None = None) -> None:
        self.wait, self.loading, self.refusal = wait, loading, refusal
        self.released: list[LeaseReleased] = []
        self.good: list[tuple[str, str]] = []
        self.exited = asyncio.Event()
        self.suspected = 0

    def suspect(self) -> None:
        self.suspected += 1

    def at_once(self, arrival: RequestArrived) -> Life | None:
        return None if self.refusal or self.wait else self.backend(arrival.model, time.monotonic())

    async def grant(self, arrival: RequestArrived) -> tuple[Life, float]:
        if self.refusal:
            raise self.refusal
        # uvloop's clock has whole milliseconds: by the lease's own it may wake one of them early.
        await asyncio.sleep(self.wait + 0.002)
        ready = time.monotonic()
        return self.backend(arrival.model, ready), ready

    def backend(self, model: str, ready: float) -> Life:
        backend: Any = SimpleNamespace(
            model=model, started_at=ready - self.loading, exited=self.exited, suspect=self.suspect
        )
        return cast(Life, backend)

    def release(self, release: LeaseReleased) -> None:
        self.released.append(release)

    def good_answer(self, request: str, model: str) -> None:
        self.good.append((request, model))


def lease(desk: Desk) -> Lease:
    return Lease(desk, RequestArrived("r", "m", 100.0))


async def test_nothing_said_is_neutral() -> None:
    desk = Desk()
    async with lease(desk):
        assert not desk.released
    assert desk.released == [LeaseReleased("r", Outcome.NEUTRAL)]


async def test_last_word_counts() -> None:
    desk = Desk()
    async with lease(desk) as held:
        held.answered()
        held.undecided()
        held.failed("it broke off")
    assert desk.good == [("r", "m")]
    assert desk.released == [LeaseReleased("r", Outcome.FAILURE, "it broke off")]


async def test_place_is_given_back_whatever_happens() -> None:
    desk = Desk()
    with pytest.raises(ZeroDivisionError):
        async with lease(desk) as held:
            held.answered()
            raise ZeroDivisionError
    assert desk.released == [LeaseReleased("r", Outcome.SUCCESS)]


async def test_refusal_gives_nothing_back() -> None:
    desk = Desk(refusal=QueueFull("too many", retry_after=1))
    with pytest.raises(QueueFull):
        async with lease(desk):
            pass
    assert not desk.released


async def test_place_that_is_there_takes_no_time() -> None:
    async with lease(Desk()) as held:
        assert (held.queue_seconds, held.load_seconds, held.backend.model) == (0, 0, "m")


async def test_waiting_is_told_apart_from_loading() -> None:
    async with lease(Desk(wait=0.05)) as held:
        assert held.load_seconds == 0
        assert held.queue_seconds >= 0.05
    async with lease(Desk(wait=0.05, loading=0.02)) as held:
        assert held.load_seconds == pytest.approx(0.02)
        assert held.queue_seconds >= 0.03
    async with lease(Desk(wait=0.02, loading=10)) as held:
        assert held.load_seconds >= 0.02 > held.queue_seconds


async def test_end_of_the_backend_can_be_waited_for() -> None:
    desk = Desk()
    async with lease(desk) as held:
        assert not await held.backend_gone(0.001)
        desk.exited.set()
        assert await held.backend_gone(10)
    assert desk.suspected == 2
