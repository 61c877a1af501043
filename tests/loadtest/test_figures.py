"""llamaproxy.loadtest.figures: percentiles, rates and faults, of answers made by hand."""

import json
from typing import Any

from llamaproxy.core.usage import Usage
from llamaproxy.loadtest.answer import Answer
from llamaproxy.loadtest.figures import MOST_FAULTS, Spread, summarise


def good(begun: float, ended: float, tokens: int = 11, **more: Any) -> Answer:
    usage = Usage(prompt=20, completion=tokens, exact=True)
    return Answer(begun, ended, 200, **{"usage": usage, **more})


def bad(fault: str, begun: float = 0.0, ended: float = 1.0) -> Answer:
    return Answer(begun, ended, 500, fault, usage=Usage(completion=1000))


def test_percentiles_are_values_that_were_measured() -> None:
    assert Spread.of(range(1, 101)) == Spread(50, 95, 99, 100)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0, 7.0)
    assert Spread.of([]) is None


def test_rates_are_of_all_clients_together() -> None:
    figures = summarise([good(10.0, 12.0), good(10.5, 15.0)])
    assert (figures.seconds, figures.tokens) == (5.0, 22)
    assert (figures.tokens_per_second, figures.requests_per_second) == (4.4, 0.4)


def test_the_speed_of_one_is_that_behind_its_first_token() -> None:
    figures = summarise([good(0.0, 9.0, first=4.0, gaps=(0.5,) * 10)])
    assert figures.each == 2.0
    assert (figures.first, figures.gap) == (Spread(4, 4, 4, 4), Spread(0.5, 0.5, 0.5, 0.5))


def test_answers_in_one_piece_have_no_first_token() -> None:
    figures = summarise([good(0.0, 1.0)])
    assert (figures.first, figures.gap, figures.each) == (None, None, None)
    assert figures.whole == Spread(1, 1, 1, 1)


def test_failures_are_counted_by_kind_and_in_nothing_else() -> None:
    figures = summarise([bad("b"), bad("a"), bad("a", ended=50.0), good(0.0, 2.0, first=1.0)])
    assert (figures.requests, figures.failed, list(figures.faults.items())) == (4, 3, [("a", 2), ("b", 1)])
    assert (figures.tokens, figures.seconds) == (11, 50.0)
    assert figures.whole == Spread(2, 2, 2, 2)


def test_a_server_that_never_says_the_same_twice_fills_no_screen() -> None:
    figures = summarise([bad(str(number)) for number in range(500)])
    assert len(figures.faults) == MOST_FAULTS + 1
    assert figures.failed == 500


def test_one_answer_without_counts_makes_them_a_guess() -> None:
    guessed = good(0.0, 1.0, usage=Usage(completion=3))
    assert summarise([good(0.0, 1.0)]).told
    assert not summarise([good(0.0, 1.0), guessed]).told


def test_of_nothing_there_is_nothing() -> None:
    figures = summarise([])
    assert (figures.tokens_per_second, figures.requests_per_second, figures.prompt_tokens) == (0.0, 0.0, None)


def test_programs_get_milliseconds_and_null() -> None:
    described = json.loads(json.dumps(summarise([good(0.0, 0.25), bad("x")]).described()))
    assert described["latency_ms"] == {"p50": 250, "p95": 250, "p99": 250, "max": 250}
    assert (described["ttft_ms"], described["faults"], described["prompt_tokens"]) == (None, {"x": 1}, 20)
