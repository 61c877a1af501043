"""llamaproxy.telemetry.logring: the newest lines of each source, within bounds."""

import logging

import pytest

from llamaproxy.telemetry.logline import ENGINE, LogEntry
from llamaproxy.telemetry.logquery import LogQuery
from llamaproxy.telemetry.logring import LogRing


def said(id: int, text: str = "x") -> LogEntry:
    return LogEntry(id, logging.INFO, "server.app", text)


def printed(id: int, model: str, text: str = "x") -> LogEntry:
    return LogEntry(id, logging.INFO, ENGINE, text, model)


def ids(ring: LogRing, query: LogQuery | None = None) -> list[int]:
    query = query or LogQuery(limit=1000)
    return [entry.id for entry in query.page(ring.select(query))]


def test_talkative_engine_pushes_out_its_own_lines_only() -> None:
    ring = LogRing(lines=3)
    ring.put(said(0))
    ring.put(printed(1, "quiet"))
    for id in range(2, 100):
        ring.put(printed(id, "talkative"))
    assert ids(ring) == [99, 98, 97, 1, 0]
    assert ring.dropped == 95


def test_line_about_a_model_is_the_gateways() -> None:
    ring = LogRing(lines=1)
    ring.put(said(0)._replace(model="m"))
    ring.put(printed(1, "m"))
    assert ids(ring) == [1, 0]


def test_long_lines_leave_room_for_fewer() -> None:
    ring = LogRing(characters=100)
    for id in range(10):
        ring.put(said(id, "x" * 30))
    assert ids(ring) == [9, 8, 7]
    ring.put(said(10, "x" * 1000))
    assert ids(ring) == [10], "the newest stays, whatever its size"


def test_source_that_was_silent_for_longest_goes() -> None:
    ring = LogRing(rings=2)
    for id, model in enumerate(["a", "b", "a", "c"]):
        ring.put(printed(id, model))
    assert ids(ring) == [3, 2, 0]
    assert ring.dropped == 1


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (LogQuery(limit=2), [5, 4]),
        (LogQuery(limit=2, before=4), [3, 2]),
        (LogQuery(limit=2, after=0, forward=True), [1, 2]),
        (LogQuery(limit=2, model="b"), [5, 3]),
    ],
)
def test_pages_are_those_of_all_sources(query: LogQuery, found: list[int]) -> None:
    ring = LogRing()
    for id in range(6):
        ring.put(printed(id, "ab"[id % 2]))
    assert ids(ring, query) == found


def test_cleared_ring_is_empty() -> None:
    ring = LogRing()
    ring.put(said(0))
    ring.clear()
    assert (ids(ring), len(ring)) == ([], 0)
