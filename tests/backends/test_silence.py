"""How long nothing has come, on a clock that the test moves."""

import asyncio
from collections.abc import Callable

import pytest

from llamaproxy.backends.silence import Silence


class Timer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when, self.callback = when, callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """The event loop's clock and its timers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: self.now)
        monkeypatch.setattr(loop, "call_later", self._call_later)

    def _call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.now + delay, callback))
        return self.timers[-1]

    @property
    def pending(self) -> list[float]:
        return [timer.when for timer in self.timers if not timer.cancelled]

    def go(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer.when <= self.now and not timer.cancelled]
        self.timers = [timer for timer in self.timers if timer.when > self.now]
        for timer in due:
            timer.callback()


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
async def silence(clock: Clock, told: list[str]) -> Silence:
    return Silence(lambda: told.append("too long"))


async def test_silence_is_told_when_it_has_lasted(clock: Clock, silence: Silence, told: list[str]) -> None:
    silence.bear(10)
    clock.go(9.9)
    assert not told
    clock.go(0.1)
    assert told


async def test_what_is_heard_puts_it_off_with_one_timer(clock: Clock, silence: Silence, told: list[str]) -> None:
    silence.bear(10)
    for _ in range(50):
        clock.go(1)
        silence.heard()
        assert len(clock.pending) == 1
    assert not told
    clock.go(9)
    clock.go(1)
    assert told


async def test_shorter_patience_counts_at_once_and_longer_too(clock: Clock, silence: Silence, told: list[str]) -> None:
    silence.bear(600)
    silence.bear(10)
    silence.bear(100)
    clock.go(10)
    assert (told, clock.pending) == ([], [1100.0])
    clock.go(90)
    assert told


async def test_nothing_is_told_where_nobody_waits(clock: Clock, silence: Silence, told: list[str]) -> None:
    silence.bear(10)
    silence.end()
    clock.go(1000)
    assert (told, clock.pending) == ([], [])


async def test_time_in_which_nothing_was_expected_does_not_count(
    clock: Clock, silence: Silence, told: list[str]
) -> None:
    silence.bear(10)
    silence.suspended = True
    clock.go(35)
    silence.suspended = False
    silence.heard()
    clock.go(9.9)
    assert not told
    clock.go(10)
    assert told


async def test_closing_leaves_no_timer(clock: Clock, silence: Silence) -> None:
    silence.bear(10)
    silence.close()
    assert clock.pending == []


async def test_what_others_have_heard_counts(clock: Clock, told: list[str]) -> None:
    heard = clock.now
    silence = Silence(lambda: told.append("too long"), lambda: heard)
    silence.bear(10)
    clock.go(6)
    heard = clock.now
    clock.go(4)
    assert (told, clock.pending) == ([], [heard + 10])
    clock.go(6)
    assert told == ["too long"]
