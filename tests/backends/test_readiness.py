"""llamaproxy.backends.readiness: pace and deadline, on a clock that only the tests move."""

import asyncio
import itertools
from collections.abc import Callable

import pytest

from llamaproxy.backends import readiness
from llamaproxy.backends.readiness import wait_ready
from llamaproxy.tasks import spawn


class World:
    """An engine that is ready at some time, makes progress at some times, and the clock of both."""

    def __init__(self, ready_at: float = float("inf"), progress: Callable[[float], int] = lambda now: 0) -> None:
        self.now = 1000.0
        self.began = self.now
        self.ready_at = self.began + ready_at
        self.probed: list[float] = []
        self.naps: list[float] = []
        self._progress = progress

    async def probe(self) -> int | None:
        self.probed.append(self.now)
        return 200 if self.now >= self.ready_at - 1e-9 else 503

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds

    async def wait(self, timeout: float = 300.0) -> bool:
        return await wait_ready(
            self.probe, lambda: self._progress(self.now - self.began), timeout, lambda: self.now, self.sleep
        )


async def test_an_engine_that_is_ready_is_asked_once_and_not_waited_for() -> None:
    world = World(ready_at=0)
    assert await world.wait()
    assert (len(world.probed), world.naps) == (1, [])


async def test_it_asks_every_10_ms_for_2_s_and_then_every_50_ms() -> None:
    world = World(ready_at=3.0)
    assert await world.wait()
    gaps = [later - earlier for earlier, later in itertools.pairwise(world.probed)]
    fast = [gap for gap in gaps if gap == pytest.approx(0.01)]
    slow = [gap for gap in gaps if gap == pytest.approx(0.05)]
    assert len(fast) == pytest.approx(200, abs=1)
    assert len(slow) == pytest.approx(20, abs=1)
    assert gaps == fast + slow


@pytest.mark.parametrize("ready_at", [0.005, 0.5, 1.999, 2.001, 60.0])
async def test_readiness_is_noticed_within_one_interval(ready_at: float) -> None:
    world = World(ready_at)
    assert await world.wait()
    assert world.now - world.ready_at <= (0.01 if ready_at < 2 else 0.05) + 1e-6


@pytest.mark.parametrize("answer", [None, 503, 500, 404, 201, 0])
async def test_only_200_is_ready(answer: int | None) -> None:
    world = World()

    async def probe() -> int | None:
        await world.probe()
        return answer if len(world.probed) < 3 else 200

    assert await wait_ready(probe, lambda: 0, 10, lambda: world.now, world.sleep)
    assert len(world.probed) == 3


@pytest.mark.parametrize("timeout", [0.5, 5.0, 300.0])
async def test_an_engine_that_stands_still_is_given_up_after_the_timeout(timeout: float) -> None:
    world = World()
    assert not await world.wait(timeout)
    assert timeout <= world.now - world.began <= timeout + 0.051


async def test_progress_restarts_the_timeout() -> None:
    """It prints something every 4 s and is ready after 17: with a timeout of 5 s that is in time."""
    assert await World(17.0, lambda elapsed: int(elapsed / 4)).wait(timeout=5.0)


async def test_the_timeout_counts_from_the_last_progress() -> None:
    world = World(progress=lambda elapsed: min(3, int(elapsed / 4)))
    assert not await world.wait(timeout=5.0)
    assert world.now - world.began == pytest.approx(12 + 5, abs=0.11)


async def test_progress_is_anything_new_not_a_certain_amount() -> None:
    assert await World(8.0, lambda elapsed: -int(elapsed)).wait(timeout=1.5)


async def test_printing_for_ever_is_not_loading() -> None:
    world = World(progress=lambda elapsed: int(elapsed * 1000))
    assert not await world.wait(timeout=5.0)
    assert world.now - world.began == pytest.approx(5.0 * readiness.PROGRESS_LIMIT, abs=0.11)


async def test_what_the_engine_printed_before_the_wait_is_no_progress() -> None:
    world = World(progress=lambda elapsed: 1234)
    assert not await world.wait(timeout=5.0)
    assert world.now - world.began == pytest.approx(5.0, abs=0.06)


async def test_an_engine_that_never_answers_a_probe_does_not_stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "PROBE_TIMEOUT", 0.01)
    world = World()
    asked = []

    async def probe() -> int | None:
        asked.append(world.now)
        world.now += 1.0
        await asyncio.Event().wait()
        return 200

    async with asyncio.timeout(2.5):
        assert not await wait_ready(probe, lambda: 0, 3.0, lambda: world.now, world.sleep)
    assert len(asked) == 3


async def test_a_probe_is_not_waited_for_longer_than_the_start_may_take() -> None:
    async with asyncio.timeout(readiness.PROBE_TIMEOUT / 2):
        loop = asyncio.get_running_loop()
        assert not await wait_ready(asyncio.Event().wait, lambda: 0, 0.05, loop.time)


async def test_what_a_probe_raises_is_its_callers_business() -> None:
    async def probe() -> int | None:
        raise LookupError

    with pytest.raises(LookupError):
        await wait_ready(probe, lambda: 0, 5, lambda: 0.0)


async def test_cancelling_it_ends_it_at_once() -> None:
    probing = asyncio.Event()

    async def probe() -> int | None:
        probing.set()
        await asyncio.Event().wait()
        return 200

    task = spawn(wait_ready(probe, lambda: 0, 300, asyncio.get_running_loop().time), name="wait")
    await probing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
