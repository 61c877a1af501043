"""The scheduler and a process that dies at its start for want of memory, as scripts: once more, beside one less."""

from typing import Any

from llamaproxy.core.events import Drain, Grant, Start, Stop, StopReason
from tests.core.script import arrival, ready, refusal, sized
from tests.core.world import World


def crowded(sizes: dict[str, int | tuple[int, ...]], **settings: Any) -> tuple[World, str]:
    """Everybody is there and rests, but for the last, which is loading for a request that waits."""
    w = sized(sizes, **settings)
    *others, last = sizes
    ready(w, *others)
    return w, w.arrive(last)


def test_idle_neighbour_goes_and_the_same_request_is_served() -> None:
    w, request = crowded({"a": 1, "b": 1, "c": 1})
    w.starve("c")
    assert w.effects == [Stop("a", 1, StopReason.EVICTED, "c")]
    w.exit("a")
    assert w.effects == [Start("c", 2)]
    w.become_ready("c")
    assert w.effects == [Grant(request, "c", 2)]


def test_it_is_reckoned_a_quarter_larger_from_then_on() -> None:
    w, _ = crowded({"a": 2, "b": 4, "c": 4})
    w.starve("c")
    w.exit("a")
    w.become_ready("c")
    w.arrive("b")
    assert arrival(w, "a") == [], "4 and 5 are 9, and it needs 2"


def test_busy_neighbour_goes_in_its_turn() -> None:
    w, _ = crowded({"a": 1, "c": 1}, max_wait=15)
    running = w.arrive("a")
    w.starve("c")
    assert w.effects == []
    w.wait(15)
    assert w.effects == [Drain("a", 1, StopReason.FAIRNESS, "c")]
    w.release(running)
    w.exit("a")
    assert w.effects == [Start("c", 2)]


def test_second_death_in_a_row_is_the_answer_to_everybody_and_counts() -> None:
    w, request = crowded({"a": 1, "b": 1, "c": 1})
    second = w.arrive("c")
    w.starve("c")
    w.exit("a")
    w.starve("c")
    assert (w.ended[request], w.ended[second]) == ("model_out_of_memory", "model_out_of_memory")
    assert w.phase == {"b": "ready"}
    w.exit("b")
    for _ in range(2):
        assert arrival(w, "c", "again") == [Start("c", w.spawns["c"])], "so far it was one failure, and not two"
        w.exit("c")
    assert refusal(arrival(w, "c"))[0] == "model_unavailable"


def test_good_start_in_between_ends_the_row() -> None:
    w, _ = crowded({"a": 1, "b": 1, "c": 1})
    w.starve("c")
    w.exit("a")
    w.become_ready("c")
    w.exit("c")
    request = w.arrive("c")
    w.starve("c")
    assert request in w.waiting


def test_other_death_in_between_ends_the_row() -> None:
    w, _ = crowded({"a": 1, "b": 1, "c": 1})
    w.starve("c")
    w.exit("a")
    w.exit("c")
    request = w.arrive("c")
    w.starve("c")
    assert request in w.waiting


def test_death_without_neighbours_is_an_ordinary_failure() -> None:
    w, request = crowded({"a": 1})
    w.starve("a")
    assert w.ended == {request: "model_out_of_memory"}
    for _ in range(2):
        w.arrive("a")
        w.starve("a")
    assert refusal(arrival(w, "a"))[0] == "model_unavailable"


def test_death_beside_pinned_ones_only_is_an_ordinary_failure_too() -> None:
    w, request = crowded({"pin": 1, "a": 1}, pinned="pin")
    w.starve("a")
    assert w.ended == {request: "model_out_of_memory"}
    assert w.scheduler.backends["a"].breaker.reason, "it counts"
    assert refusal(arrival(w, "a"))[0] == "model_unavailable", "beside the pinned one it cannot be"


def test_nobody_joins_it_while_it_tries_again() -> None:
    w, _ = crowded({"a": 1, "b": 1, "c": 1})
    w.starve("c")
    w.exit("a")
    assert arrival(w, "a") == [], "there is room for it, but it would be one too many"
    w.become_ready("c")
    assert Start("a", 2) in w.effects


def test_nobody_joins_it_while_its_neighbour_stops() -> None:
    w, _ = crowded({"a": 1, "c": 1, "d": 1}, models_max=3)
    w.starve("d")
    assert w.phase == {"a": "stopping", "c": "ready"}
    w.exit("c")
    assert w.effects == [Start("d", 2)], "one has gone, and it matters not which"


def test_death_of_a_running_process_for_want_of_memory_is_a_crash() -> None:
    w = sized({"a": 1, "b": 1})
    ready(w, "a", "b")
    w.starve("b")
    assert arrival(w, "b") == [Start("b", 2)]
