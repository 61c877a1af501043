"""llamaproxy.telemetry.modelevent: what happened, as a code for programs and a sentence for people."""

import pytest

from llamaproxy.core.breaker import BreakerState
from llamaproxy.core.events import (
    BackendExited,
    BackendReady,
    BreakerMoved,
    Drain,
    Grounds,
    News,
    Resume,
    Start,
    Stop,
    StopReason,
)
from llamaproxy.errors import ModelStartFailed
from llamaproxy.telemetry.modelevent import LONGEST_DETAIL, Lives

SECOND = 1_000_000
DIED = BackendExited("m", 1, ModelStartFailed("m: the engine exited with status 1"))
EVICTED = Stop("m", 1, StopReason.EVICTED, "qwen", Grounds.LEAST_RECENTLY_USED)


def opened(state: BreakerState) -> BreakerMoved:
    return BreakerMoved("m", 1, state, "it died")


@pytest.mark.parametrize(
    ("news", "state", "reason", "text"),
    [
        (Start("m", 1), "starting", None, "starting"),
        (BackendReady("m", 1), "ready", None, "ready after 2.0 s"),
        (Resume("m", 1), "ready", "resumed", "no longer draining"),
        (Drain("m", 1, StopReason.FAIRNESS, "qwen"), "draining", "fairness", "draining: making room for qwen"),
        (EVICTED, "stopping", "evicted", "evicted for qwen: least recently used"),
        (Stop("m", 1, StopReason.TTL), "stopping", "ttl", "stopping: not used for its time to live"),
        (DIED, "crashed", "model_start_failed", "failed after 2.0 s: m: the engine exited with status 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_news_of_a_process(news: News, state: str, reason: str | None, text: str) -> None:
    lives = Lives()
    lives.take(Start("m", 1), SECOND)
    event = lives.take(news, 3 * SECOND)
    assert (event.state, event.reason, event.shown()["text"]) == (state, reason, text)
    assert (event.shown()["at"], event.seconds) == (3, 2)


@pytest.mark.parametrize("reason", StopReason)
def test_every_reason_has_words(reason: StopReason) -> None:
    assert Lives().take(Drain("m", 1, reason), 1).shown()["text"].startswith("draining: ")


def test_end_that_was_asked_for_is_no_crash() -> None:
    lives = Lives()
    lives.take(EVICTED, SECOND)
    assert lives.take(DIED, 2 * SECOND).shown() == {
        **{"at": 2, "spawn": 1, "state": "stopped", "reason": "evicted", "detail": None, "seconds": 1},
        "text": "stopped: evicted",
    }


def test_breaker_has_a_time_of_its_own() -> None:
    lives = Lives()
    lives.take(Start("m", 1), 0)
    first = lives.take(opened(BreakerState.OPEN), 5 * SECOND)
    second = lives.take(opened(BreakerState.HALF_OPEN), 15 * SECOND)
    third = lives.take(opened(BreakerState.CLOSED), 16 * SECOND)
    assert [event.seconds for event in (first, second, third)] == [None, 10, 1]
    assert [event.breaker for event in (first, second, third)] == [True] * 3
    assert [event.shown()["text"] for event in (first, second, third)] == [
        "circuit breaker open: it died",
        "circuit breaker half-open: it died",
        "circuit breaker closed",
    ]


def test_what_an_engine_said_is_kept_within_bounds() -> None:
    event = Lives().take(BackendExited("m", 1, ModelStartFailed("x" * 10_000)), 1)
    assert len(event.detail or "") == LONGEST_DETAIL


def test_model_that_was_forgotten_begins_anew() -> None:
    lives = Lives()
    lives.take(Start("m", 1), 0)
    lives.forget("m")
    assert lives.take(BackendReady("m", 1), SECOND).seconds is None
