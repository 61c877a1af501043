"""Tables and marks of the measurements."""

import math

from bench.report import Mark, Result, Row, all_of, at_most, ratio, table

ROWS = [
    Row("ours", {"starts": 5, "total_s": 9.0}, 1),
    Row("theirs", {"starts": 6, "total_s": 20.0}, 1),
    Row("ours", {"starts": 4, "total_s": 12.0}, 2),
    Row("theirs", {"starts": 6, "total_s": 10.0, "lost": 1}, 2),
]


def test_columns_are_as_wide_as_they_must_be_and_what_is_not_known_is_a_dash() -> None:
    assert table(ROWS) == [
        "        round  starts  total_s  lost",
        "ours        1       5     9.00     -",
        "theirs      1       6    20.00     -",
        "ours        2       4    12.00     -",
        "theirs      2       6    10.00     1",
    ]


def test_a_mark_for_every_round_is_held_to_the_worst() -> None:
    assert at_most(ROWS, "ours", "starts", 5) == Mark("starts of ours: 5, at most 5", True)
    assert not at_most(ROWS, "ours", "starts", 4).met
    assert all_of(ROWS, "ours", "starts", 4).met
    assert all_of(ROWS, "ours", "starts", 5) == Mark("starts of ours: 4 of 5", False)


def test_a_ratio_is_one_of_the_best_rounds() -> None:
    assert ratio(ROWS, ("ours", "theirs"), "total_s", 0.9) == Mark("total_s, ours to theirs: 0.90, at most 0.9", True)
    assert not ratio(ROWS, ("ours", "theirs"), "total_s", 0.8).met


def test_a_ratio_from_a_busy_machine_is_in_doubt() -> None:
    busy = [Row("ours", {"s": 1, "others_pct": 3}), Row("theirs", {"s": 2, "others_pct": 40})]
    assert "others took 40 %" in ratio(busy, ("ours", "theirs"), "s", 1).text
    assert "others" not in ratio(busy[:1] * 2, ("ours", "ours"), "s", 1).text


def test_a_mark_that_was_missed_is_seen_at_once() -> None:
    text = str(Result("a title", ROWS[:1], [Mark("met", True), Mark("not met", False)]))
    assert text.splitlines()[0] == "a title"
    assert text.splitlines()[-1].startswith("MISSED")


def test_json_says_null_where_there_is_no_number() -> None:
    row = Row("ours", {"p50_s": math.nan, "ok": 0}, 3)
    assert Result("t", [row]).as_json()["rows"] == [{"peer": "ours", "round": 3, "p50_s": None, "ok": 0}]
