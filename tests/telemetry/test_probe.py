"""llamaproxy.telemetry.probe: nobody waits for an answer, however long it takes."""

import threading
from collections.abc import Iterator

import pytest

from llamaproxy.telemetry.probe import PATIENCE, Probe


class Oracle:
    """Answers when it may, and counts how often it is asked."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.asked = 0
        self.threads: set[str] = set()

    def __call__(self) -> int:
        self.asked += 1
        self.threads.add(threading.current_thread().name)
        assert self.may_answer.wait(10)
        return self.asked


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def oracle() -> Iterator[Oracle]:
    made = Oracle()
    yield made
    made.may_answer.set()


def test_answer_of_the_last_question(oracle: Oracle) -> None:
    probe = Probe("x", oracle)
    assert probe.reading() == (None, None)
    oracle.may_answer.set()
    for number in (1, 2):
        probe.poke()
        probe.join(10)
        assert probe.reading() == (number, None)
    assert oracle.threads == {"probe-x"}
    probe.close()
    assert probe._thread
    probe._thread.join(10)
    assert not probe._thread.is_alive()


def test_one_question_at_a_time(oracle: Oracle) -> None:
    probe = Probe("x", oracle)
    for _ in range(5):
        probe.poke()
    assert probe._thread
    assert probe._thread.daemon, "the process may end while it hangs"
    oracle.may_answer.set()
    probe.join(10)
    assert probe.reading() == (1, None)


def test_answer_that_does_not_come_is_told(oracle: Oracle) -> None:
    probe = Probe("x", oracle, clock := Clock())
    oracle.may_answer.set()
    probe.poke()
    probe.join(10)
    oracle.may_answer.clear()
    probe.poke()
    clock.now += PATIENCE
    assert probe.value == 1
    clock.now += 1
    assert probe.reading() == (None, "no answer for 11 s")
    oracle.may_answer.set()
    probe.join(10)
    assert probe.reading() == (2, None)


def test_failure_is_told_and_the_next_question_asked() -> None:
    answers = iter([OSError("no such disk"), ValueError(), None])

    def look() -> str:
        if error := next(answers):
            raise error
        return "good"

    probe = Probe("x", look)
    seen = []
    for _ in range(3):
        probe.poke()
        probe.join(10)
        seen.append(probe.reading())
    assert seen == [(None, "no such disk"), (None, "ValueError"), ("good", None)]


def test_machine_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    probe = Probe("x", lambda: 1)
    probe.poke()
    assert probe.reading() == (None, "can't start new thread")
