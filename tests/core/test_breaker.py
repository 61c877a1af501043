"""CLOSED, OPEN, HALF_OPEN."""

import pytest

from llamaproxy.config import BreakerConfig
from llamaproxy.core.breaker import Breaker, BreakerState


@pytest.fixture
def breaker() -> Breaker:
    return Breaker(BreakerConfig(start_failures=3, request_failures=5, open=10, open_max=40))


def fail(breaker: Breaker, now: float, times: int = 5) -> None:
    for _ in range(times):
        breaker.request_failed(now, "broken")


def test_closed_until_enough_failures_in_a_row(breaker: Breaker) -> None:
    fail(breaker, 0, 4)
    assert breaker.state(0) is BreakerState.CLOSED
    breaker.succeeded()
    fail(breaker, 0, 4)
    assert breaker.admits("r", 0)
    fail(breaker, 0, 1)
    assert breaker.state(0) is BreakerState.OPEN
    assert not breaker.admits("r", 9.9)
    assert breaker.retry_after(4) == 6
    assert breaker.reason == "broken"


def test_starts_are_counted_apart_and_a_good_start_resets_only_those(breaker: Breaker) -> None:
    breaker.start_failed(0, "no")
    breaker.start_failed(0, "no")
    breaker.started()
    breaker.start_failed(0, "no")
    assert breaker.state(0) is BreakerState.CLOSED
    breaker.start_failed(0, "no")
    breaker.start_failed(0, "no")
    assert breaker.state(0) is BreakerState.OPEN


def test_one_probe_at_a_time_and_its_success_closes(breaker: Breaker) -> None:
    fail(breaker, 0)
    assert breaker.state(10) is BreakerState.HALF_OPEN
    assert breaker.admits("probe", 10)
    assert breaker.admits("probe", 11), "asking again is no second probe"
    assert not breaker.admits("other", 11)
    breaker.succeeded()
    assert breaker.state(11) is BreakerState.CLOSED
    assert not breaker.half_open


def test_failed_probe_doubles_the_time_up_to_its_bound(breaker: Breaker) -> None:
    fail(breaker, 0)
    now, waits = 0.0, []
    for _ in range(4):
        now += breaker.retry_after(now)
        assert breaker.admits("probe", now)
        breaker.request_failed(now, "still")
        waits.append(breaker.retry_after(now))
    assert waits == [20, 40, 40, 40]


def test_closing_forgets_how_long_it_was_open(breaker: Breaker) -> None:
    fail(breaker, 0)
    breaker.admits("probe", 10)
    breaker.request_failed(10, "still")
    breaker.admits("probe", 30)
    breaker.succeeded()
    fail(breaker, 40)
    assert breaker.retry_after(40) == 10


def test_probe_without_a_verdict_makes_way(breaker: Breaker) -> None:
    fail(breaker, 0)
    breaker.admits("probe", 10)
    breaker.probe_left("somebody else")
    assert not breaker.admits("other", 10)
    breaker.probe_left("probe")
    assert breaker.admits("other", 10)


def test_probe_that_never_ends_counts_as_failed(breaker: Breaker) -> None:
    fail(breaker, 0)
    breaker.admits("probe", 10)
    breaker.probe_begun("probe", 15)
    assert not breaker.admits("other", 54.9)
    assert breaker.state(54.9) is BreakerState.HALF_OPEN
    assert not breaker.admits("other", 55)
    assert breaker.state(55) is BreakerState.OPEN
    assert breaker.retry_after(55) == 20
    assert breaker.admits("other", 75), "and the next one has a deadline of its own"


def test_probe_that_has_not_begun_has_no_deadline(breaker: Breaker) -> None:
    fail(breaker, 0)
    breaker.admits("probe", 10)
    breaker.probe_begun("somebody else", 10)
    assert not breaker.admits("other", 1000)
    assert breaker.state(1000) is BreakerState.HALF_OPEN
    assert breaker.retry_after(1000) == 1


def test_deadline_of_a_probe_goes_with_it(breaker: Breaker) -> None:
    fail(breaker, 0)
    breaker.admits("probe", 10)
    breaker.probe_begun("probe", 10)
    breaker.probe_left("probe")
    assert breaker.admits("second", 60)


def test_failed_start_reopens_a_half_open_one_at_once(breaker: Breaker) -> None:
    fail(breaker, 0)
    breaker.admits("probe", 10)
    breaker.start_failed(11, "does not start")
    assert breaker.state(11) is BreakerState.OPEN
    assert breaker.reason == "does not start"


def test_what_began_before_it_opened_changes_nothing(breaker: Breaker) -> None:
    fail(breaker, 0)
    fail(breaker, 5)
    assert breaker.retry_after(5) == 5
    breaker.succeeded()
    assert breaker.state(5) is BreakerState.OPEN


def test_person_resets_it(breaker: Breaker) -> None:
    fail(breaker, 0)
    breaker.reset()
    assert breaker.state(0) is BreakerState.CLOSED


def test_probe_whose_answer_has_begun_lets_others_in_and_is_not_yet_a_success(breaker: Breaker) -> None:
    fail(breaker, 0)
    breaker.admits("probe", 10)
    breaker.answered()
    assert breaker.admits("other", 10)
    breaker.request_failed(11, "died in the middle")
    assert breaker.retry_after(11) == 20


def test_answer_that_has_begun_resets_no_count(breaker: Breaker) -> None:
    fail(breaker, 0, 4)
    breaker.answered()
    fail(breaker, 0, 1)
    assert breaker.state(0) is BreakerState.OPEN


def test_answer_that_begins_while_it_is_open_lets_nobody_in(breaker: Breaker) -> None:
    fail(breaker, 0)
    breaker.answered()
    assert not breaker.admits("other", 5)
