"""llamaproxy.core.limits: what a key may take, against a world that keeps every request in a list."""

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.core.limits import EXACT, GRAIN, LONGEST, WINDOW, Allowance, Limits, Want, Window
from llamaproxy.errors import RateLimitExceeded, RequestOverLimit

NONE = Limits()


def want(tokens: int = 0, place: bool = True) -> Want:
    return Want(tokens, place=place)


def refused(allowance: Allowance, limits: Limits, wanted: Want, now: float) -> RateLimitExceeded:
    with pytest.raises(RateLimitExceeded) as caught:
        allowance.admit(limits, wanted, now)
    assert (caught.value.status, caught.value.code) == (429, "rate_limit_exceeded")
    return caught.value


class TestWindow:
    def test_everything_counts_for_a_minute_and_never_less(self) -> None:
        window = Window()
        window.add(5, 10.01)
        assert window.until_empty(10.01) == pytest.approx(WINDOW)
        assert window.used(10.01 + WINDOW - 1e-6) == 5
        assert window.used(10.01 + WINDOW + 1e-6) == 0

    def test_it_keeps_few_places_for_many_requests(self) -> None:
        window = Window()
        for number in range(100_000):
            window.add(1, number / 1000)
        assert len(window._ends) <= EXACT + WINDOW / GRAIN + 1
        assert 59_999 <= window.used(100.0) <= 60_000 + 1000 * GRAIN

    def test_when_there_is_less(self) -> None:
        window = Window()
        window.add(10, 0)
        window.add(10, 30)
        assert window.until_less(1, 40) == 20
        assert window.until_less(10, 40) == 20
        assert window.until_less(11, 40) == 50
        assert window.until_less(21, 40) is None
        assert window.until_empty(40) == 50
        assert window.until_empty(100) == 0

    def test_what_was_too_much_counts_longer_so_that_the_average_is_right(self) -> None:
        window = Window()
        window.add(500, 0, limit=100)
        assert window.used(299.9) == 500
        assert window.used(300.1) == 0
        window.add(10**9, 400, limit=1)
        assert window.until_empty(400) == LONGEST

    def test_nothing_is_no_entry(self) -> None:
        window = Window()
        window.add(0, 1)
        window.add(-5, 1)
        assert (window.used(1), window.until_empty(1)) == (0, 0)


class TestRequests:
    LIMITS = Limits(rpm=2)

    def test_the_third_waits_for_the_first_to_be_a_minute_old(self) -> None:
        allowance = Allowance()
        allowance.admit(self.LIMITS, want(), 0)
        allowance.admit(self.LIMITS, want(), 20)
        assert refused(allowance, self.LIMITS, want(), 50).retry_after == 10
        allowance.admit(self.LIMITS, want(), 60)

    def test_who_is_refused_has_taken_nothing(self) -> None:
        allowance = Allowance()
        for _ in range(2):
            allowance.admit(self.LIMITS, want(), 0)
        for second in range(50):
            refused(allowance, self.LIMITS, want(), second)
        allowance.admit(self.LIMITS, want(), 60)

    def test_an_end_gives_no_request_back(self) -> None:
        allowance = Allowance()
        for _ in range(2):
            allowance.settle(allowance.admit(self.LIMITS, want(), 0), 0, 0, self.LIMITS, 0)
        refused(allowance, self.LIMITS, want(), 1)

    def test_standing(self) -> None:
        allowance = Allowance()
        allowance.admit(self.LIMITS, want(), 0)
        standing = allowance.requests(self.LIMITS, 15)
        assert standing
        assert (standing.limit, standing.remaining, standing.reset) == (2, 1, 45)
        assert allowance.requests(NONE, 15) is None


class TestConcurrency:
    LIMITS = Limits(concurrency=2)

    def test_an_end_makes_room_at_once(self) -> None:
        allowance = Allowance()
        first = allowance.admit(self.LIMITS, want(), 0)
        allowance.admit(self.LIMITS, want(), 0)
        error = refused(allowance, self.LIMITS, want(), 0)
        assert error.retry_after
        assert "2 at once" in error.message
        allowance.settle(first, 0, 0, self.LIMITS, 0)
        allowance.admit(self.LIMITS, want(), 0)

    def test_what_takes_no_place_is_not_counted(self) -> None:
        allowance = Allowance()
        for _ in range(10):
            allowance.admit(self.LIMITS, want(place=False), 0)
        for _ in range(2):
            allowance.admit(self.LIMITS, want(), 0)
        allowance.admit(self.LIMITS, want(place=False), 0)


class TestTokens:
    LIMITS = Limits(tpm=100)

    def test_held_until_the_end_however_long_it_takes(self) -> None:
        allowance = Allowance()
        allowance.admit(self.LIMITS, want(100), 0)
        for now in (0, 61, 3600):
            refused(allowance, self.LIMITS, want(1), now)

    def test_settled_with_what_it_was(self) -> None:
        allowance = Allowance()
        held = allowance.admit(self.LIMITS, want(100), 0)
        allowance.settle(held, 10, 20, self.LIMITS, 5)
        assert refused(allowance, self.LIMITS, want(71), 5).retry_after == 60
        allowance.admit(self.LIMITS, want(70), 5)

    def test_what_is_not_known_is_what_was_held(self) -> None:
        for prompt, completion, left in ((None, None, 40), (5, None, 45), (None, 0, 90)):
            allowance = Allowance()
            held = allowance.admit(self.LIMITS, Want(10, 50), 0)
            allowance.settle(held, prompt, completion, self.LIMITS, 0)
            standing = allowance.tokens(self.LIMITS, 0)
            assert standing
            assert standing.remaining == left

    def test_a_request_that_can_never_fit(self) -> None:
        error = refused(Allowance(), self.LIMITS, Want(20, 81), 0)
        assert isinstance(error, RequestOverLimit)
        for word in ("101", "20 of the prompt", "81 of the answer", "100 a minute", "never"):
            assert word in error.message

    def test_a_guess_gives_way_and_a_wish_does_not(self) -> None:
        allowance = Allowance()
        assert allowance.admit(self.LIMITS, Want(20, 1024, stated=False), 0).tokens == 100
        refused(Allowance(), self.LIMITS, Want(20, 1024), 0)
        assert isinstance(refused(Allowance(), self.LIMITS, Want(101, 9, stated=False), 0), RequestOverLimit)

    def test_one_that_took_more_than_it_said_is_waited_for_longer(self) -> None:
        allowance = Allowance()
        held = allowance.admit(self.LIMITS, Want(20, 1024, stated=False), 0)
        allowance.settle(held, 20, 480, self.LIMITS, 0)
        assert refused(allowance, self.LIMITS, want(1), 10).retry_after == 290
        allowance.admit(self.LIMITS, want(1), 300)

    def test_what_costs_nothing_does_not_wait(self) -> None:
        allowance = Allowance()
        allowance.admit(self.LIMITS, want(100), 0)
        allowance.admit(self.LIMITS, want(0), 0)

    def test_standing(self) -> None:
        allowance = Allowance()
        allowance.settle(allowance.admit(self.LIMITS, want(30), 0), 30, 0, self.LIMITS, 0)
        standing = allowance.tokens(self.LIMITS, 20)
        assert standing
        assert (standing.limit, standing.remaining, standing.reset) == (100, 70, 40)
        allowance.admit(self.LIMITS, want(50), 20)
        standing = allowance.tokens(self.LIMITS, 20)
        assert standing
        assert (standing.remaining, standing.reset) == (20, 60)
        assert allowance.tokens(NONE, 20) is None


def test_the_longest_wait_is_told() -> None:
    """Who comes back after it is not refused for another reason."""
    limits = Limits(rpm=1, tpm=100, concurrency=1)
    allowance = Allowance()
    allowance.settle(allowance.admit(limits, want(90), 0), 90, 0, limits, 30)
    assert refused(allowance, limits, want(50), 40).retry_after == 50
    allowance.admit(limits, want(50), 90)


def test_limits_that_a_reload_changes() -> None:
    allowance = Allowance()
    held = allowance.admit(NONE, want(500), 0)
    allowance.settle(held, None, None, NONE, 0)
    refused(allowance, Limits(tpm=1000), want(501), 1)
    allowance.admit(Limits(tpm=1001), want(501), 1)


def test_idle() -> None:
    limits = Limits(rpm=5, tpm=100)
    allowance = Allowance()
    assert allowance.idle(0)
    held = allowance.admit(limits, want(10), 0)
    assert not allowance.idle(1000)
    allowance.settle(held, None, None, limits, 1000)
    assert not allowance.idle(1059)
    assert allowance.idle(1061)


def test_whether_there_is_any_limit() -> None:
    assert not NONE
    assert all((Limits(rpm=1), Limits(tpm=1), Limits(concurrency=1)))


@dataclass
class NaiveRequest:
    """Everything that was ever admitted, with all that became of it."""

    begun: float
    held: Want
    ended: float = math.inf
    taken: int = 0


@dataclass
class NaiveWorld:
    requests: list[NaiveRequest] = field(default_factory=list)

    def tokens(self, now: float, window: float) -> int:
        """The most that can have passed in the minute before."""
        open_ = sum(one.held.tokens for one in self.requests if one.ended == math.inf)
        return open_ + sum(one.taken for one in self.requests if now - window < one.ended <= now)

    def begun(self, now: float, window: float) -> int:
        return sum(1 for one in self.requests if now - window < one.begun <= now)

    def in_flight(self) -> list[NaiveRequest]:
        return [one for one in self.requests if one.ended == math.inf]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["admit", "admit", "settle"]),
        st.integers(0, 400),
        st.integers(0, 800),
        st.floats(0, 25, allow_nan=False),
        st.integers(0, 2),
    ),
    max_size=80,
)


@given(STEPS)
def test_in_no_order_more_is_taken_than_the_limits(steps: list[tuple[str, int, int, float, int]]) -> None:
    """And nobody is refused whom the naive world would admit, rounding aside."""
    limits = Limits(rpm=8, tpm=1000, concurrency=3)
    allowance, world, now = Allowance(), NaiveWorld(), 0.0
    for action, prompt, completion, passed, which in steps:
        now += passed
        in_flight = world.in_flight()
        if action == "admit":
            wanted = Want(prompt, completion)
            try:
                held = allowance.admit(limits, wanted, now)
            except RateLimitExceeded:
                over_tokens = world.tokens(now, WINDOW + GRAIN) + wanted.tokens > 1000 and wanted.tokens
                assert over_tokens or world.begun(now, WINDOW + GRAIN) >= 8 or len(in_flight) >= 3
            else:
                world.requests.append(NaiveRequest(now, held))
        elif in_flight:
            one = in_flight[which % len(in_flight)]
            one.ended, one.taken = now, min(prompt + completion, one.held.tokens)
            allowance.settle(one.held, one.taken, 0, limits, now)
        assert world.tokens(now, WINDOW) <= 1000
        assert world.begun(now, WINDOW) <= 8
        assert len(world.in_flight()) <= 3


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30))
def test_who_waits_as_told_is_admitted(sizes: list[int]) -> None:
    limits = Limits(rpm=5, tpm=1000)
    allowance, now = Allowance(), 0.0
    for size in sizes:
        try:
            held = allowance.admit(limits, want(size), now)
        except RateLimitExceeded as error:
            assert error.retry_after is not None
            now += error.retry_after
            held = allowance.admit(limits, want(size), now)
        allowance.settle(held, None, None, limits, now)
        now += 1


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 30)), min_size=5, max_size=40))
def test_even_where_every_request_takes_more_than_it_said_the_average_holds(
    requests: list[tuple[int, float]],
) -> None:
    """Over any longer time: what was taken, but for the last that was let in, is at most the limit a minute."""
    limits = Limits(tpm=100)
    allowance, now, before, last = Allowance(), 0.0, 0, 0
    for taken, passed in requests:
        now += passed
        try:
            held = allowance.admit(limits, Want(1, 1024, stated=False), now)
        except RateLimitExceeded as error:
            now += error.retry_after or 0
            held = allowance.admit(limits, Want(1, 1024, stated=False), now)
        before += last
        last = taken
        allowance.settle(held, taken, 0, limits, now)
        assert before <= 100 * now / WINDOW + 1e-6
