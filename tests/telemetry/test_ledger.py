"""llamaproxy.telemetry.ledger: one row for each request, and every request is somewhere."""

import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from llamaproxy.telemetry import ledger as module
from llamaproxy.telemetry.ledger import Ledger, RequestRow, RequestState

FINAL = [state for state in RequestState if state is not RequestState.IN_FLIGHT]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def row(name: str = "r1") -> RequestRow:
    return RequestRow(name, "chat/completions", "openai", "127.0.0.1")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    return Ledger(clock)


def ids(ledger: Ledger, limit: int = 100) -> list[str]:
    return [row["id"] for row in ledger.rows(limit)]


def test_an_open_row_is_in_flight(ledger: Ledger) -> None:
    opened = ledger.open(row())
    assert (ledger.received, ledger.in_flight) == (1, 1)
    (shown,) = ledger.rows(10)
    assert (shown["state"], shown["status"], shown["duration_ms"]) == ("in_flight", None, None)
    assert opened.started_at > 1e9


@pytest.mark.parametrize("state", FINAL)
def test_a_closed_row_keeps_how_it_ended(state: RequestState, ledger: Ledger, clock: Clock) -> None:
    opened = ledger.open(row())
    clock.now += 0.25
    ledger.first_byte(opened)
    clock.now += 1
    ledger.close(opened, state, 200)
    (shown,) = ledger.rows(10)
    assert (shown["state"], shown["status"]) == (state.value, 200)
    assert (shown["ttfb_ms"], shown["duration_ms"]) == (250, 1250)
    assert (ledger.in_flight, dict(ledger.ended)) == (0, {state: 1})


def test_a_row_is_closed_once(ledger: Ledger) -> None:
    opened = ledger.open(row())
    ledger.close(opened, RequestState.OK, 200)
    with pytest.raises(KeyError):
        ledger.close(opened, RequestState.UPSTREAM_ERROR, 500)
    assert (ledger.received, sum(ledger.ended.values()), len(ledger.rows(10))) == (1, 1, 1)
    assert opened.state is RequestState.OK


def test_equal_rows_are_two_requests(ledger: Ledger) -> None:
    first, second = ledger.open(row()), ledger.open(row())
    second.started_at = first.started_at
    ledger.close(first, RequestState.OK, 200)
    assert (ledger.received, ledger.in_flight) == (2, 1)


def test_in_flight_first_and_then_the_newest(ledger: Ledger) -> None:
    opened = [ledger.open(row(name)) for name in "abcd"]
    for index in (1, 0, 3):
        ledger.close(opened[index], RequestState.OK, 200)
    assert ids(ledger) == ["c", "d", "a", "b"]
    assert ids(ledger, 2) == ["c", "d"]


def test_rows_are_copies_that_json_can_carry(ledger: Ledger) -> None:
    opened = ledger.open(row())
    shown = ledger.rows(1)[0]
    shown["id"] = "changed"
    assert opened.id == "r1"
    assert json.loads(json.dumps(ledger.rows(1)))[0]["state"] == "in_flight"


def test_old_rows_go_and_their_counts_stay(ledger: Ledger) -> None:
    for number in range(module.ROWS_KEPT + 5):
        ledger.close(ledger.open(row(str(number))), RequestState.OK, 200)
    kept = ids(ledger, 10_000)
    assert (len(kept), kept[0], kept[-1]) == (module.ROWS_KEPT, str(module.ROWS_KEPT + 4), "5")
    assert ledger.ended[RequestState.OK] == module.ROWS_KEPT + 5


def test_no_prompt_no_answer_and_no_key_has_a_place_in_a_row(ledger: Ledger) -> None:
    ledger.open(row())
    assert not {"prompt", "body", "messages", "answer", "content", "key", "authorization"} & set(ledger.rows(1)[0])


class Conservation(RuleBasedStateMachine):
    """received = what ended + what is in flight, at any moment."""

    opened: Bundle[RequestRow] = Bundle("opened")

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.ledger = Ledger(self.clock)
        self.received = 0
        self.closed: dict[RequestState, int] = {}

    @rule(target=opened)
    def open(self) -> RequestRow:
        self.received += 1
        return self.ledger.open(row(str(self.received)))

    @rule(row=opened, passed=st.floats(0, 100))
    def first_byte(self, row: RequestRow, passed: float) -> None:
        self.clock.now += passed
        self.ledger.first_byte(row)

    @rule(row=consumes(opened), state=st.sampled_from(FINAL))
    def close(self, row: RequestRow, state: RequestState) -> None:
        self.closed[state] = self.closed.get(state, 0) + 1
        self.ledger.close(row, state, 200)
        assert row.duration_ms is not None
        assert row.duration_ms >= (row.ttfb_ms or 0)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.ledger.received == self.received
        assert dict(self.ledger.ended) == self.closed
        assert self.ledger.in_flight == self.received - sum(self.closed.values())
        shown: list[dict[str, Any]] = self.ledger.rows(10_000)
        assert len({row["id"] for row in shown}) == self.received


TestConservation = Conservation.TestCase
TestConservation.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
