"""llamaproxy.telemetry.traffic: every row counts once, from the first, and labels are bounded."""

from collections import Counter
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llamaproxy.core.events import BackendExited, BackendReady, Start, Stop, StopReason
from llamaproxy.core.rates import Rate
from llamaproxy.errors import Unavailable
from llamaproxy.telemetry import traffic as module
from llamaproxy.telemetry.ledger import Ledger, RequestRow, RequestState
from llamaproxy.telemetry.traffic import MOST_WAITING, Traffic
from tests.telemetry.rows import ended

Labels = dict[str, str]
GONE = Unavailable("gone")


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def traffic(clock: Clock) -> Traffic:
    made = Traffic(clock)
    made.allow(["m", "n"], ["alice"])
    return made


def samples(traffic: Traffic, name: str) -> list[tuple[Labels, float]]:
    families = text_string_to_metric_families("".join(traffic.families()))
    return [(sample.labels, sample.value) for found in families for sample in found.samples if sample.name == name]


def one(traffic: Traffic, name: str, **labels: str) -> float:
    (value,) = (value for found, value in samples(traffic, name) if labels.items() <= found.items())
    return value


def row(number: int = 1, **fields: Any) -> RequestRow:
    return ended(number, **{"model": "m", "duration_ms": 2000.0, **fields})


class TestRequests:
    def test_first_one_counts(self, traffic: Traffic) -> None:
        assert samples(traffic, "llamaproxy_requests_total") == []
        traffic.ended(row())
        labels = {"model": "m", "endpoint": "chat/completions", "state": "ok", "status": "200"}
        assert samples(traffic, "llamaproxy_requests_total") == [(labels, 1)]
        assert samples(traffic, "llamaproxy_requests_total") == [(labels, 1)], "looking counts nothing"

    def test_ledger_that_ends_rows_is_all_it_needs(self, traffic: Traffic) -> None:
        ledger = Ledger(ended=traffic.ended)
        states = [RequestState.OK, RequestState.REJECTED, RequestState.CLIENT_ABORT, RequestState.OK]
        for state in states:
            ledger.close(ledger.open(row(state=RequestState.IN_FLIGHT)), state, None)
        counted = {found["state"]: value for found, value in samples(traffic, "llamaproxy_requests_total")}
        assert counted == Counter(states) == ledger.ended

    def test_many_are_counted_though_nobody_looks(self, traffic: Traffic) -> None:
        for number in range(10 * MOST_WAITING + 1):
            traffic.ended(row(number))
            assert len(traffic._waiting) < MOST_WAITING
        assert one(traffic, "llamaproxy_requests_total") == 10 * MOST_WAITING + 1

    def test_times_are_seconds(self, traffic: Traffic) -> None:
        traffic.ended(row(queue_ms=30.0, ttfb_ms=400.0, duration_ms=2000.0))
        assert one(traffic, "llamaproxy_queue_seconds_sum", model="m") == pytest.approx(0.03)
        assert one(traffic, "llamaproxy_time_to_first_byte_seconds_sum", model="m") == pytest.approx(0.4)
        assert one(traffic, "llamaproxy_request_seconds_sum", endpoint="chat/completions") == pytest.approx(2)
        assert one(traffic, "llamaproxy_request_seconds_bucket", le="2.5") == 1
        assert one(traffic, "llamaproxy_request_seconds_bucket", le="1") == 0

    def test_time_that_is_not_known_is_not_observed(self, traffic: Traffic) -> None:
        traffic.ended(row(state=RequestState.REJECTED, status=429))
        assert one(traffic, "llamaproxy_queue_seconds_count") == 0
        assert one(traffic, "llamaproxy_time_to_first_byte_seconds_count") == 0
        assert one(traffic, "llamaproxy_request_seconds_count") == 1

    def test_tokens_by_model_key_and_kind(self, traffic: Traffic) -> None:
        traffic.ended(row(key="alice", prompt_tokens=10, cached_tokens=4, completion_tokens=7))
        traffic.ended(row(prompt_tokens=1))
        found = {
            (labels["key"], labels["kind"]): value for labels, value in samples(traffic, "llamaproxy_tokens_total")
        }
        assert found == {
            **{("alice", "prompt"): 10, ("alice", "cached"): 4, ("alice", "completion"): 7},
            **{("", "prompt"): 1, ("", "cached"): 0, ("", "completion"): 0},
        }

    def test_replays(self, traffic: Traffic) -> None:
        traffic.ended(row(replays=2))
        traffic.ended(row(replays=0))
        assert one(traffic, "llamaproxy_replays_total", model="m") == 2


class TestNames:
    def test_what_is_not_configured_is_other_and_nothing_is_empty(self, traffic: Traffic) -> None:
        for number in range(50):
            traffic.ended(row(model=f"invented-{number}", key=f"key-{number}"))
        traffic.ended(row(model=None, status=None))
        found = {
            (labels["model"], labels["status"]): value
            for labels, value in samples(traffic, "llamaproxy_requests_total")
        }
        assert found == {("other", "200"): 50, ("", ""): 1}
        assert {labels["key"] for labels, _ in samples(traffic, "llamaproxy_tokens_total")} == {"other", ""}

    def test_status_that_nobody_knows_is_other(self, traffic: Traffic) -> None:
        for status in (222, 333, 999, 404):
            traffic.ended(row(status=status))
        found = {labels["status"]: value for labels, value in samples(traffic, "llamaproxy_requests_total")}
        assert found == {"other": 3, "404": 1}

    def test_names_that_are_configured_no_more_leave(self, traffic: Traffic) -> None:
        traffic.ended(row(model="m", key="alice"))
        traffic.ended(row(model="n"))
        traffic.observe(Start("n", 1))
        traffic.allow(["n"], [])
        assert [labels["model"] for labels, _ in samples(traffic, "llamaproxy_requests_total")] == ["n"]
        traffic.ended(row(model="m", key="alice"))
        assert one(traffic, "llamaproxy_requests_total", model="other") == 1
        assert one(traffic, "llamaproxy_requests_total", model="n") == 1

    def test_memory_is_bounded(self, traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_MOST_BOOKS", 10)
        for number in range(100):
            traffic.ended(row(model=f"invented-{number}"))
        assert one(traffic, "llamaproxy_requests_total", model="other") == 100
        assert len(traffic._books) <= 10


class TestRates:
    def test_of_the_last_minute(self, traffic: Traffic, clock: Clock) -> None:
        traffic.ended(row(key="alice", prompt_tokens=10, completion_tokens=5))
        traffic.ended(row(model="n"))
        assert traffic.rate() == Rate(2, 15)
        assert traffic.rates() == ({"m": Rate(1, 15), "n": Rate(1, 0)}, {"alice": Rate(1, 15)})
        clock.now += 61
        assert traffic.rate() == Rate()
        assert traffic.rates() == ({}, {})


def starts(traffic: Traffic) -> dict[tuple[str, str], float]:
    told = samples(traffic, "llamaproxy_backend_starts_total")
    return {(labels["model"], labels["result"]): value for labels, value in told if value}


class TestBackends:
    def test_failed_starts_are_told_before_the_first(self, traffic: Traffic) -> None:
        assert one(traffic, "llamaproxy_backend_starts_total", model="m", result="failed") == 0

    def test_start_that_succeeds(self, traffic: Traffic, clock: Clock) -> None:
        traffic.observe(Start("m", 1))
        clock.now += 3
        traffic.observe(BackendReady("m", 1))
        traffic.observe(BackendExited("m", 1, GONE))
        assert starts(traffic) == {("m", "ready"): 1}
        assert one(traffic, "llamaproxy_backend_load_seconds_sum", model="m") == 3

    def test_start_that_fails(self, traffic: Traffic) -> None:
        traffic.observe(Start("m", 1))
        traffic.observe(BackendExited("m", 1, GONE))
        assert starts(traffic) == {("m", "failed"): 1}
        assert samples(traffic, "llamaproxy_backend_load_seconds_count") == []

    def test_start_that_was_called_off(self, traffic: Traffic) -> None:
        traffic.observe(Start("m", 1))
        traffic.observe(Stop("m", 1, StopReason.REQUESTED))
        traffic.observe(BackendExited("m", 1, GONE))
        assert starts(traffic) == {("m", "stopped"): 1}

    def test_evictions_by_reason(self, traffic: Traffic) -> None:
        for reason in (StopReason.EVICTED, StopReason.TTL, StopReason.EVICTED):
            traffic.observe(Stop("m", 1, reason))
        found = {labels["reason"]: value for labels, value in samples(traffic, "llamaproxy_evictions_total")}
        assert found == {"evicted": 2, "ttl": 1}

    def test_lives_leave_nothing_behind(self, traffic: Traffic) -> None:
        for life in range(10):
            traffic.observe(Start("m", life))
            traffic.observe(Stop("m", life, StopReason.SHUTDOWN))
            if life % 2:
                traffic.observe(BackendReady("m", life))
            traffic.observe(BackendExited("m", life, GONE))
        assert not traffic._starting
        assert not traffic._told_to_stop


class TestLatency:
    def test_it_is_that_of_the_last_answer(self, traffic: Traffic) -> None:
        assert traffic.latency("m") is None
        for number, ttfb in enumerate((100.0, 40.0, None)):
            traffic.ended(row(number, ttfb_ms=ttfb))
        assert (traffic.latency("m"), traffic.latency("n")) == (40.0, None)

    def test_models_that_are_no_more_are_forgotten(self, traffic: Traffic) -> None:
        traffic.ended(row(ttfb_ms=1.0))
        traffic.allow(["n"], [])
        assert traffic.latency("m") is None
