from dataclasses import replace

from bench.figures import Sample, added, complaints, number, reference, summarise, table
from bench.quiet import TOLERANCE, Calibration

QUIET = Calibration(1.0, 1.0)
NOISY = Calibration(1.0, TOLERANCE * 1.01)


def sample(candidate: str, value: float, calibration: Calibration = QUIET, round: int = 1) -> Sample:
    return Sample("unary", candidate, round, {"us": value}, calibration)


def test_minimum_and_median_of_the_quiet_turns() -> None:
    samples = [sample("a", 3), sample("a", 1, NOISY), sample("a", 9), sample("a", 4)]
    (one,) = summarise(samples, "us", [QUIET, NOISY, QUIET])
    assert (one.least, one.median, one.kept, one.of, one.caveat) == (3, 4, 3, 4, "")


def test_where_no_turn_was_quiet_all_count_and_it_is_told() -> None:
    (one,) = summarise([sample("a", 3, NOISY), sample("a", 5, NOISY)], "us", [QUIET, NOISY])
    assert (one.least, one.kept, one.caveat) == (3, 0, "disturbed")
    assert "disturbed" in table("t", [("µs", [one])])[-1]


def test_a_turn_with_failures_says_nothing() -> None:
    failed = replace(sample("a", 1), failures=7)
    noisy, alone = summarise([failed, sample("a", 5, NOISY), replace(failed, candidate="b")], "us", [QUIET])
    assert (noisy.least, noisy.kept, noisy.of, noisy.caveat) == (5, 0, 2, "disturbed")
    assert (alone.least, alone.caveat) == (1, "failed")


def test_ratios_are_those_of_the_minima_to_nginx() -> None:
    summaries = summarise([sample("nginx", 20), sample("b", 50)], "us", [QUIET])
    assert [one.ratio(reference(summaries)) for one in summaries] == [1.0, 2.5]
    assert [line.split() for line in table("t", [("µs", summaries)])[-2:]] == [
        ["nginx", "20.0", "20.0", "1.00"],
        ["b", "50.0", "50.0", "2.50"],
    ]


def test_without_nginx_there_is_no_ratio() -> None:
    summaries = summarise([sample("b", 50)], "us", [QUIET])
    assert table("t", [("µs", summaries)])[-1].split() == ["b", "50.0", "50.0", "-"]


def test_what_is_added_is_told_by_the_direct_way_of_the_same_round() -> None:
    samples = [sample("direct", 10), sample("a", 14), sample("a", 30, round=2), sample("direct", 20, round=2)]
    assert [(one.candidate, one.round, one.figures["us"]) for one in added(samples)] == [("a", 1, 4), ("a", 2, 10)]


def test_failures_are_told() -> None:
    good, bad = sample("a", 1), Sample("unary", "b", 2, {"us": 1.0}, QUIET, requests=9, failures=2, short=1)
    assert complaints([good, bad]) == ["  unary, round 2: b: 2 failures and 1 short answers of 9"]


def test_numbers_have_the_digits_that_mean_something() -> None:
    assert [number(value) for value in (1.26, 99.94, 1234.5)] == ["1.3", "99.9", "1,234"]
