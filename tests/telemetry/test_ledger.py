"""llamaproxy.telemetry.ledger: one row for each request, and every request is somewhere."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from llamaproxy.telemetry import ledger as module
from llamaproxy.telemetry.ledger import FIELDS, Ledger, RequestRow, RequestState, stored, values

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


def shown(ledger: Ledger) -> dict[str, Any]:
    """The only row."""
    (found,) = [*ledger.in_flight_rows(), *ledger.recent]
    return found.shown()


def test_an_open_row_is_in_flight(ledger: Ledger) -> None:
    opened = ledger.open(row())
    assert (ledger.received, ledger.in_flight) == (1, 1)
    found = shown(ledger)
    assert (found["state"], found["status"], found["duration_ms"]) == ("in_flight", None, None)
    assert opened.started_at > 1e9


@pytest.mark.parametrize("state", FINAL)
def test_a_closed_row_keeps_how_it_ended(state: RequestState, ledger: Ledger, clock: Clock) -> None:
    opened = ledger.open(row())
    clock.now += 0.25
    ledger.first_byte(opened)
    clock.now += 1
    ledger.close(opened, state, 200)
    found = shown(ledger)
    assert (found["state"], found["status"]) == (state.value, 200)
    assert (found["ttfb_ms"], found["duration_ms"]) == (250, 1250)
    assert (ledger.in_flight, dict(ledger.ended)) == (0, {state: 1})


def test_a_row_is_closed_once(ledger: Ledger) -> None:
    opened = ledger.open(row())
    ledger.close(opened, RequestState.OK, 200)
    with pytest.raises(KeyError):
        ledger.close(opened, RequestState.UPSTREAM_ERROR, 500)
    assert (ledger.received, sum(ledger.ended.values()), len(ledger.recent)) == (1, 1, 1)
    assert opened.state is RequestState.OK


def test_equal_rows_are_two_requests(ledger: Ledger) -> None:
    first, second = ledger.open(row()), ledger.open(row())
    second.started_at = first.started_at
    ledger.close(first, RequestState.OK, 200)
    assert (ledger.received, ledger.in_flight) == (2, 1)
    assert (first.number, second.number) == (1, 2)


def test_what_is_shown_is_a_copy_that_json_can_carry(ledger: Ledger) -> None:
    opened = ledger.open(row())
    shown(ledger)["id"] = "changed"
    assert opened.id == "r1"
    assert json.loads(json.dumps(shown(ledger)))["state"] == "in_flight"
    assert not {"number", "begun", "slot"} & set(shown(ledger))


def test_others_hear_of_an_answer_before_it_goes_out_and_of_its_end(clock: Clock) -> None:
    heard: list[tuple[str, str, float | None]] = []

    def told(what: str) -> Callable[[RequestRow], object]:
        return lambda row: heard.append((what, row.state.value, row.ttfb_ms))

    ledger = Ledger(clock, answering=told("answering"), ended=told("ended"))
    opened = ledger.open(row())
    assert not heard
    clock.now += 1
    ledger.first_byte(opened)
    ledger.close(opened, RequestState.OK, 200)
    assert heard == [("answering", "in_flight", 1000), ("ended", "ok", 1000)]


def test_what_is_stored_is_of_the_types_that_sqlite_takes_as_they_are(ledger: Ledger) -> None:
    done = ledger.open(row())
    for place, name in enumerate(FIELDS):
        setattr(done, name, place)
    done.stream = True
    ledger.close(done, RequestState.OK, 200, "code")
    assert stored(7, done) == (7, 1, *values(done))
    assert {type(cell) for cell in stored(7, done)} <= {str, int, float}


def test_what_most_rows_have_not_needs_no_adapter_either(ledger: Ledger) -> None:
    cells = dict(zip(FIELDS, stored(7, row())[2:], strict=True))
    assert cells["key"] is cells["error"] is module.NULL


def test_old_rows_go_and_their_counts_stay(ledger: Ledger) -> None:
    for number in range(module.ROWS_KEPT + 5):
        ledger.close(ledger.open(row(str(number))), RequestState.OK, 200)
    kept = [row.id for row in reversed(ledger.recent)]
    assert (len(kept), kept[0], kept[-1]) == (module.ROWS_KEPT, str(module.ROWS_KEPT + 4), "5")
    assert ledger.ended[RequestState.OK] == module.ROWS_KEPT + 5


def test_row_has_what_the_interface_says_and_no_prompt_no_answer_and_no_secret() -> None:
    """`key` is the name of a key."""
    assert set(FIELDS) == set(
        "id started_at model key endpoint dialect stream status state prompt_tokens cached_tokens completion_tokens "
        "queue_ms load_ms ttfb_ms duration_ms prompt_tps generation_tps bytes_in bytes_out replays client "
        "backend error".split()
    )


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
        shown = [*self.ledger.in_flight_rows(), *self.ledger.recent]
        assert len({row.id for row in shown}) == self.received


TestConservation = Conservation.TestCase
TestConservation.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
