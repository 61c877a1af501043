"""llamaproxy.backends.breakers: every change of a circuit breaker is told, once, whatever moved it."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from llamaproxy.backends.breakers import BreakerWatch
from llamaproxy.config import BreakerConfig
from llamaproxy.core.backend import Backend
from llamaproxy.core.breaker import Breaker
from llamaproxy.core.events import (
    BackendExited,
    BreakerMoved,
    BreakerResetRequested,
    LeaseReleased,
    Outcome,
    RequestLeft,
)
from llamaproxy.errors import Unavailable
from llamaproxy.modelconfig import ModelConfig
from tests.backends.processes import until

FAILED = LeaseReleased("r", Outcome.FAILURE)


class Ward:
    """One model whose breaker is watched."""

    def __init__(self) -> None:
        config = BreakerConfig(request_failures=1, start_failures=1, open=0.05)
        self.backend = Backend("m", ModelConfig(path="/m"), Breaker(config), spawn=7)
        self.backends = {"m": self.backend}
        self.told: list[BreakerMoved] = []
        self.watch = BreakerWatch(self.backends, self.told.append)

    @property
    def states(self) -> list[str]:
        return [news.state.value for news in self.told]


@pytest.fixture
async def ward() -> AsyncIterator[Ward]:
    made = Ward()
    yield made
    made.watch.close()


async def test_failures_that_open_it(ward: Ward) -> None:
    ward.watch.after(FAILED)
    assert ward.told == []
    ward.backend.breaker.request_failed(time.monotonic(), "it died")
    ward.watch.after(FAILED)
    ward.watch.after(FAILED)
    assert [(news.model, news.spawn, news.reason) for news in ward.told] == [("m", 7, "it died")]
    assert ward.states == ["open"]


async def test_start_that_fails(ward: Ward) -> None:
    ward.backend.breaker.start_failed(time.monotonic(), "no file")
    ward.watch.after(BackendExited("m", 7, Unavailable("gone")))
    assert ward.states == ["open"]


async def test_half_open_by_the_clock_alone(ward: Ward) -> None:
    ward.backend.breaker.request_failed(time.monotonic(), "it died")
    ward.watch.after(FAILED)
    await until(lambda: ward.states == ["open", "half_open"])


async def test_anything_may_close_it(ward: Ward) -> None:
    ward.backend.breaker.request_failed(time.monotonic(), "it died")
    ward.watch.after(FAILED)
    ward.backend.breaker.reset()
    ward.watch.after(BreakerResetRequested("m"))
    ward.watch.after(RequestLeft("r"))
    await asyncio.sleep(0)
    assert ward.states == ["open", "closed"]


async def test_model_that_is_no_more_is_not_spoken_of(ward: Ward) -> None:
    ward.backend.breaker.request_failed(time.monotonic(), "it died")
    ward.watch.after(FAILED)
    ward.backends.clear()
    ward.watch.after(RequestLeft("r"))
    assert ward.states == ["open"]
