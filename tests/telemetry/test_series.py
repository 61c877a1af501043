"""llamaproxy.telemetry.series: averages that become coarser with age, on any clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.errors import InvalidRequest
from llamaproxy.telemetry.series import COLUMNS, TIERS, Row, Series, parse_range

Values = tuple[float | None, ...]


def values(first: float | None) -> Values:
    """A sample whose columns are all the same."""
    return (first,) * len(COLUMNS)


def cpu(series: Series, name: str, now: float) -> list[tuple[float | None, float | None]]:
    columns = series.columns(name, now)
    return list(zip(columns["timestamp"], columns["cpu_percent"], strict=True))


def test_sample_is_part_of_a_step_in_each_tier() -> None:
    series = Series()
    assert [row[:4] for row in series.add(1234.5, values(3))] == [(10, 1230, 1, 3), (60, 1200, 1, 3), (600, 1200, 1, 3)]
    assert [row[:4] for row in series.add(1241, values(5))] == [(10, 1240, 1, 5), (60, 1200, 2, 4), (600, 1200, 2, 4)]
    assert cpu(series, "1h", 1250) == [(1230, 3), (1240, 5)]
    assert cpu(series, "24h", 1250) == cpu(series, "7d", 1250) == [(1200, 4)]


def test_every_column_is_there_and_as_long_as_the_others() -> None:
    series = Series()
    assert series.columns("1h", 0) == {"timestamp": [], **dict.fromkeys(COLUMNS, ())}
    series.add(10, values(1))
    assert {len(column) for column in series.columns("1h", 20).values()} == {1}


def test_what_is_not_known_does_not_count() -> None:
    series = Series()
    for at, value in ((0, None), (1, 4), (2, 6)):
        series.add(at, values(value))
    assert cpu(series, "1h", 5) == [(0, 5)]
    series.add(20, values(None))
    assert cpu(series, "1h", 25)[-1] == (20, None)


@pytest.mark.parametrize("name", TIERS)
def test_as_many_steps_as_the_range_has(name: str) -> None:
    step, most = TIERS[name]
    series = Series()
    for number in range(most + 50):
        series.add(number * step, values(number))
    found = cpu(series, name, (most + 49) * step)
    assert found == [(number * step, number) for number in range(50, most + 50)]


@given(st.lists(st.floats(-1e6, 4e9), max_size=1000))
def test_any_clock_takes_bounded_memory(times: list[float]) -> None:
    series = Series()
    for at in times:
        series.add(at, values(1))
    for step, most in TIERS.values():
        assert len(series._tiers[step]) <= most


def test_hour_is_an_hour_after_a_gap_too() -> None:
    series = Series()
    for at in (0, 7200):
        series.add(at, values(1))
    assert cpu(series, "1h", 7205) == [(7200, 1)]
    assert cpu(series, "24h", 7205) == [(0, 1), (7200, 1)]


def test_clock_that_was_ahead_is_not_shown() -> None:
    series = Series()
    series.add(4e9, values(1))
    series.add(100, values(2))
    assert cpu(series, "1h", 105) == [(100, 2)]


class TestLoading:
    def written(self, series: Series, *samples: tuple[float, float]) -> list[Row]:
        rows = {(row[0], row[1]): row for at, value in samples for row in series.add(at, values(value))}
        return [*rows.values()]

    def test_series_goes_on_where_one_has_ended(self) -> None:
        rows = self.written(Series(), (0, 1), (10, 2), (20, 3))
        later = Series()
        later.load(rows)
        later.add(30, values(10))
        assert cpu(later, "1h", 40) == [(0, 1), (10, 2), (20, 3), (30, 10)]
        assert cpu(later, "24h", 40) == [(0, 4)]

    def test_step_of_which_more_is_known_stays(self) -> None:
        rows = self.written(Series(), (0, 1))
        later = Series()
        later.add(1, values(5))
        later.add(2, values(7))
        later.load(rows)
        assert cpu(later, "1h", 5) == [(0, 6)]

    def test_tier_that_nobody_knows_is_left(self) -> None:
        series = Series()
        series.load([(7, 0, 1, *values(1))])
        assert cpu(series, "1h", 5) == []


def test_ranges() -> None:
    assert [parse_range(name) for name in TIERS] == ["1h", "24h", "7d"]
    for text in ("", "1H", "2h", "1h,24h"):
        with pytest.raises(InvalidRequest, match="1h, 24h, 7d"):
            parse_range(text)
