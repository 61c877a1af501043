"""Sums over the last minute, compared with a list of everything that happened."""

from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.core.rates import WINDOW, Rate, Rates, Window

HAPPENED = st.lists(st.tuples(st.floats(0, 50) | st.sampled_from([0.0, 1.0, 59.0, 60.0, 61.0, 1e6]), st.integers(0, 9)))
"""Seconds since the last one, and how much."""


@given(HAPPENED, st.floats(0, 200), st.floats(0, 1e9))
def test_the_sum_is_that_of_the_last_sixty_whole_seconds(
    happened: list[tuple[float, int]], later: float, start: float
) -> None:
    window, now, everything = Window(), start, list[tuple[int, int]]()
    for passed, amount in happened:
        now += passed
        window.add(amount, now)
        everything.append((int(now), amount))
        assert window.rate(now) == sum(amount for second, amount in everything if second > int(now) - WINDOW)
    now += later
    assert window.rate(now) == sum(amount for second, amount in everything if second > int(now) - WINDOW)


def test_what_happened_is_forgotten_after_a_minute() -> None:
    window = Window()
    window.add(3, 100.9)
    assert [window.rate(now) for now in (100.9, 159.9, 160.0, 1e9)] == [3, 3, 0, 0]


def test_a_clock_that_goes_back_loses_nothing() -> None:
    window = Window()
    window.add(3, 100.0)
    window.add(2, 90.0)
    assert (window.rate(95.0), window.rate(100.0), window.rate(159.0)) == (5, 5, 5)


def test_settling_what_is_forgotten_already_is_no_rate_below_nothing() -> None:
    window = Window()
    window.add(10, 0)
    window.add(-4, 50)
    assert (window.rate(50), window.rate(60), window.rate(110)) == (6, 0, 0)


class TestRates:
    def test_each_name_has_its_own(self) -> None:
        rates = Rates()
        rates.add("a", 10, requests=1)
        rates.add("a", 11, tokens=30)
        rates.add("b", 11, requests=1, tokens=5)
        assert (rates.of("a", 12), rates.of("b", 12), rates.of("c", 12)) == (Rate(1, 30), Rate(1, 5), Rate())
        assert rates.all(70.5) == {"a": Rate(0, 30), "b": Rate(1, 5)}
        assert rates.all(80) == {}

    def test_who_is_silent_does_not_stay(self) -> None:
        rates = Rates()
        for number in range(10_000):
            rates.add(f"key-{number}", number, requests=1)
            assert len(rates) <= 2 * 64
        assert len(rates.all(9_999)) == WINDOW

    def test_who_is_not_is_never_forgotten(self) -> None:
        rates = Rates()
        for number in range(1000):
            rates.add(f"key-{number}", number / 100, requests=1)
        assert len(rates.all(10)) == 1000
