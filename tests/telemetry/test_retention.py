"""llamaproxy.telemetry.retention: rows age, whatever somebody does to the clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.telemetry.retention import Anchor

DAY = 86400.0
NOW = 20_000 * DAY
TIMES = st.floats(0, 40_000 * DAY)


def horizon(passed: float, jump: float = 0.0, newest: float | None = NOW, retention: float = 30 * DAY) -> float:
    """After a start at NOW, so many seconds and one jump of the wall clock."""
    return Anchor(NOW, 500.0, newest).horizon(NOW + passed + jump, 500.0 + passed, retention)


def test_rows_go_when_they_are_too_old() -> None:
    assert horizon(0) == NOW - 30 * DAY
    assert horizon(5 * DAY) == NOW - 25 * DAY


@pytest.mark.parametrize("retention", [3600.0, DAY, 30 * DAY])
@pytest.mark.parametrize("jump", [DAY, 365 * DAY, 1e12])
def test_clock_that_jumps_ahead_wipes_nothing(retention: float, jump: float) -> None:
    """At most a tenth goes early."""
    assert horizon(0, jump, retention=retention) == pytest.approx(NOW + min(jump, 0.1 * retention) - retention)


def test_clock_that_is_set_back_deletes_nothing() -> None:
    assert horizon(0, -DAY) == NOW - 31 * DAY


def test_clock_that_was_wrong_at_the_start_is_told_by_the_rows() -> None:
    assert horizon(0, newest=NOW - 365 * DAY) == NOW - (365 + 27) * DAY


def test_weekend_off_delays_nothing() -> None:
    assert horizon(0, newest=NOW - 2 * DAY) == NOW - 30 * DAY


def test_rows_from_the_future_do_not_make_others_old() -> None:
    assert horizon(0, newest=NOW + 365 * DAY) == NOW - 30 * DAY


def test_empty_database_has_nothing_to_say() -> None:
    assert horizon(0, newest=None) == NOW - 30 * DAY


@given(wall=TIMES, newest=st.none() | TIMES, now=TIMES, passed=st.floats(0, 1000 * DAY), retention=st.floats(1, 1e9))
def test_no_clock_makes_a_row_older_than_what_is_known(
    wall: float, newest: float | None, now: float, passed: float, retention: float
) -> None:
    found = Anchor(wall, 0.0, newest).horizon(now, passed, retention)
    assert found <= now - retention
    if newest is not None:
        assert found <= newest + passed - 0.9 * retention + 1e-3
