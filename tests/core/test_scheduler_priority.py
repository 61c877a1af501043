"""Whose request goes first in the queue of a model, as scripts."""

from tests.core.script import ready, world
from tests.core.world import World


def busy(max_wait: float = 15) -> tuple[World, str]:
    """One model with one place, and who has it."""
    w = world("a", settings={"concurrency": 1}, max_wait=max_wait)
    ready(w, "a")
    return w, w.arrive("a")


def served(w: World, running: str) -> str:
    """Who is next."""
    w.release(running)
    (name,) = w.leases
    return name


def test_higher_priority_goes_first_and_equals_as_they_came() -> None:
    w, running = busy()
    low, plain, high, later = (w.arrive("a", priority=priority) for priority in (-1, 0, 5, 5))
    order = []
    for _ in range(4):
        order.append(running := served(w, running))
    assert order == [high, later, plain, low]


def test_who_has_waited_for_long_is_passed_over_no_more() -> None:
    w, running = busy(max_wait=15)
    low = w.arrive("a", priority=-1000)
    w.now += 14.9
    early = w.arrive("a", priority=1000)
    running = served(w, running)
    assert running == early
    w.now += 0.1
    w.arrive("a", priority=1000)
    assert served(w, running) == low


def test_a_stream_of_important_ones_cannot_starve_anybody() -> None:
    w, running = busy(max_wait=15)
    begun = w.now
    low = w.arrive("a", priority=-5)
    for _ in range(100):
        w.now += 1
        w.arrive("a", priority=5)
        running = served(w, running)
        if running == low:
            break
    assert w.now - begun == 15


def test_position_is_told_in_the_order_of_turns() -> None:
    w, running = busy()
    low, high = w.arrive("a"), w.arrive("a", priority=1)
    position = w.scheduler.position
    assert (position(high, "a", w.now), position(low, "a", w.now), position(running, "a", w.now)) == (1, 2, 1)


def test_who_waits_to_be_alone_is_overtaken_by_higher_priority_only() -> None:
    w, running = busy()
    alone = w.arrive("a", exclusive=True)
    plain, high = w.arrive("a"), w.arrive("a", priority=1)
    order = []
    for _ in range(3):
        order.append(running := served(w, running))
    assert order == [high, alone, plain]
