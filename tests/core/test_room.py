"""Places and memory for backends."""

import pytest

from llamaproxy.config import BreakerConfig
from llamaproxy.core.backend import Backend
from llamaproxy.core.breaker import Breaker
from llamaproxy.core.events import Drain, Effect, Grounds, Resume, Start, Stop, StopReason
from llamaproxy.core.footprint import Footprint
from llamaproxy.core.room import Room
from llamaproxy.core.states import BackendState
from llamaproxy.errors import Unavailable
from llamaproxy.modelconfig import ModelConfig
from tests.core.world import limits


def backend(name: str, wanted: float | None = None, **settings: object) -> Backend:
    config = ModelConfig.model_validate(settings if "url" in settings else {"path": "/m", **settings})
    return Backend(name, config, Breaker(BreakerConfig()), start_wanted=wanted)


def resident(room: Room, *backends: Backend, now: float = 0) -> None:
    """Each becomes ready now, and rests."""
    room.arrange(list(backends), now, [])
    for b in backends:
        b.move(BackendState.READY)
        b.ready_since = b.idle_since = now


def arrange(room: Room, cold: list[Backend], now: float) -> tuple[list[Effect], list[Backend]]:
    out: list[Effect] = []
    return out, room.arrange(cold, now, out)


def test_places_go_to_the_first_in_line() -> None:
    room = Room(limits(models_max=2))
    a, b, c = (backend(name, wanted=0) for name in "abc")
    assert arrange(room, [a, b, c], 1) == ([Start("a", 1), Start("b", 1)], [])
    assert room.live == 2
    assert a.started_at == 1
    room.gone(b, 2)
    assert arrange(room, [c], 2) == ([Start("c", 1)], [])


def test_place_that_comes_free_is_promised_once() -> None:
    room = Room(limits(models_max=2))
    a, b, c, d = (backend(name, wanted=0) for name in "abcd")
    resident(room, a, b)
    assert arrange(room, [c], 1)[0] == [Stop("a", 1, StopReason.EVICTED, "c")]
    assert arrange(room, [c], 1)[0] == []
    assert arrange(room, [c, d], 1)[0] == [Stop("b", 1, StopReason.EVICTED, "d")]


def test_eviction_says_why_it_was_this_one() -> None:
    room = Room(limits(models_max=2))
    a, b, c = (backend(name, wanted=0) for name in "abc")
    resident(room, a, b)
    a.idle_since = 0.5
    (stopped,) = arrange(room, [c], 1)[0]
    assert isinstance(stopped, Stop)
    assert (stopped.model, stopped.grounds) == ("b", Grounds.LEAST_RECENTLY_USED)


def test_alarms_are_set_for_linger_patience_and_residency_in_turn() -> None:
    room = Room(limits(linger=1, max_wait=5, min_residency=30))
    a, b = backend("a"), backend("b", wanted=100)
    resident(room, a, now=100)
    assert arrange(room, [b], 100) == ([], [])
    assert room.wake_at == 101
    a.add_lease("r", light=False)
    arrange(room, [b], 101)
    assert room.wake_at == 105
    arrange(room, [b], 105)
    assert room.wake_at == 130
    assert arrange(room, [b], 130)[0] == [Drain("a", 1, StopReason.FAIRNESS, "b")]
    assert a.yielded_at == 130
    arrange(room, [b], 131)
    assert room.wake_at is None, "only the end of the lease helps now"


def test_drain_is_called_off_for_want_of_a_successor() -> None:
    room = Room(limits(max_wait=0, min_residency=0))
    a, b = backend("a"), backend("b", wanted=0)
    resident(room, a)
    a.add_lease("r", light=False)
    arrange(room, [b], 1)
    assert arrange(room, [b], 2) == ([], [])
    assert arrange(room, [], 2) == ([Resume("a", 1)], [a])
    assert (a.leaving, a.successor) == (None, None)


def test_idle_backend_goes_before_a_drain_is_waited_for() -> None:
    room = Room(limits(models_max=2, max_wait=0, min_residency=0))
    a, b, c = backend("a"), backend("b"), backend("c", wanted=0)
    resident(room, a, b)
    a.add_lease("ra", light=False)
    b.add_lease("rb", light=False)
    arrange(room, [c], 1)
    assert a.state is BackendState.DRAINING
    b.end_lease("rb", 2)
    assert arrange(room, [c], 2) == ([Stop("b", 1, StopReason.EVICTED, "c"), Resume("a", 1)], [a])


def test_drain_ends_with_the_last_lease() -> None:
    room = Room(limits(max_wait=0, min_residency=0))
    a, b = backend("a"), backend("b", wanted=0)
    resident(room, a)
    a.add_lease("r", light=False)
    arrange(room, [b], 1)
    a.end_lease("r", 2)
    assert arrange(room, [b], 2)[0] == [Stop("a", 1, StopReason.FAIRNESS, "b")]


def test_time_to_live_ends_before_anybody_else_is_asked_to_go() -> None:
    room = Room(limits(models_max=2))
    important, other, cold = backend("important", priority=1, ttl=5), backend("other"), backend("cold", wanted=0)
    resident(room, important, other)
    arrange(room, [], 1)
    assert room.wake_at == 5
    assert arrange(room, [cold], 5)[0] == [Stop("important", 1, StopReason.TTL)]


def test_only_pins_that_stay_wall_a_model_in() -> None:
    room = Room(limits(models_max=1))
    pinned, other = backend("pinned", pinned=True), backend("other")
    assert not room.wall(other)
    arrange(room, [pinned], 0)
    assert isinstance(room.wall(other), Unavailable)
    assert not room.wall(pinned)
    room.stop(pinned, StopReason.REQUESTED, [])
    assert not room.wall(other)


def test_server_elsewhere_needs_no_place_and_has_none_to_give() -> None:
    room = Room(limits(models_max=1, max_wait=0, min_residency=0))
    pinned, cold = backend("pinned", pinned=True), backend("cold", wanted=0)
    here, elsewhere = (backend(name, wanted=0, url=f"http://{name}.test") for name in ("here", "elsewhere"))
    assert arrange(room, [pinned, here, elsewhere], 0)[0] == [
        Start(name, 1) for name in ("pinned", "here", "elsewhere")
    ]
    for b in (pinned, here, elsewhere):
        b.move(BackendState.READY)
    assert room.live == 3
    assert arrange(room, [cold], 100) == ([], []), "nothing of what is elsewhere goes for it"
    room.gone(elsewhere, 100)
    assert room.wall(elsewhere) is None
    assert isinstance(room.wall(cold), Unavailable)
    room.gone(pinned, 101)
    assert arrange(room, [cold], 101)[0] == [Start("cold", 1)]


def test_servers_elsewhere_are_no_neighbours() -> None:
    room = Room(limits(models_max=3))
    large, elsewhere = backend("large"), backend("elsewhere", url="http://elsewhere.test")
    arrange(room, [large, elsewhere], 0)
    room.gone(large, 1)
    assert not room.crowded_out(large), "one less of them would give it nothing"
    assert large.company == 0


def test_all_stop_once() -> None:
    room = Room(limits(models_max=2))
    a, b = backend("a"), backend("b")
    resident(room, a, b)
    out: list[Effect] = []
    room.drain(a, StopReason.REQUESTED, out)
    room.stop_all(StopReason.SHUTDOWN, out)
    assert out == [Stop("a", 1, StopReason.REQUESTED), Stop("b", 1, StopReason.SHUTDOWN)]


def test_measured_size_goes_before_an_estimate_and_the_largest_before_the_others() -> None:
    room, b = Room(limits()), backend("b")
    sizes = []
    for size, measured in ((4, False), (5, False), (3, True), (9, False), (2, True), (6, True)):
        room.weigh(b, Footprint(size), measured)
        sizes.append(b.takes.ram)
    assert sizes == [4, 5, 3, 3, 3, 6]


def test_what_loads_takes_at_least_what_is_measured() -> None:
    room, b = Room(limits()), backend("b", wanted=0)
    room.weigh(b, Footprint(4), measured=False)
    arrange(room, [b], 0)
    for size, expected in ((1, 4), (5, 5)):
        room.weigh(b, Footprint(size), measured=True)
        assert (b.takes.ram, b.measured) == (expected, False)
    b.move(BackendState.READY)
    room.weigh(b, Footprint(3), measured=True)
    assert b.takes.ram == 3


def test_process_of_what_a_model_was_before_is_weighed_by_itself() -> None:
    room, b = Room(limits()), backend("b")
    resident(room, b)
    b.forget()
    room.weigh(b, Footprint(7), measured=True)
    room.weigh(b, Footprint(2), measured=False)
    assert (b.takes, b.footprint, b.measured) == (Footprint(7), Footprint(2), False)


def starved(*neighbours: Backend) -> tuple[Room, Backend]:
    room, b = Room(limits(models_max=5)), backend("b", wanted=0)
    room.weigh(b, Footprint(4), measured=False)
    resident(room, *neighbours)
    return room, b


def test_death_for_want_of_memory_asks_for_more_of_it_and_for_fewer_neighbours() -> None:
    room, b = starved(backend("a"), backend("c"))
    assert room.crowded_out(b)
    assert (b.company, b.footprint, b.measured) == (1, Footprint(5), True)
    unknown = backend("unknown")
    assert room.crowded_out(unknown)
    assert unknown.footprint is None


@pytest.mark.parametrize("case", ["the second in a row", "no neighbours", "pinned ones only"])
def test_where_another_try_would_not_help(case: str) -> None:
    neighbours = [] if case == "no neighbours" else [backend("a", pinned=case == "pinned ones only")]
    room, b = starved(*neighbours)
    b.cramped = case == "the second in a row"
    assert not room.crowded_out(b)


def test_pinned_one_stays_although_it_was_to_make_room() -> None:
    room = Room(limits(max_wait=0, min_residency=0))
    a, b = backend("a"), backend("b", wanted=0)
    resident(room, a)
    a.add_lease("r", light=False)
    arrange(room, [b], 1)
    a.config = backend("a", pinned=True).config
    assert arrange(room, [b], 2) == ([Resume("a", 1)], [a])


def test_who_is_overdue_keeps_what_there_is_though_it_is_not_enough() -> None:
    room = Room(limits(models_max=5, memory_budget=10, max_wait=5, min_residency=50))
    a, large, small = backend("a"), backend("large", wanted=0), backend("small", wanted=50)
    a.footprint, large.footprint, small.footprint = Footprint(4), Footprint(8), Footprint(2)
    resident(room, a)
    a.add_lease("r", light=False)
    assert arrange(room, [large, small], 5) == ([], [])
    assert room.wake_at == 50, "when the busy one has had its turn"
    assert arrange(room, [small], 5) == ([Start("small", 1)], [])


def test_idle_one_that_rests_beyond_the_limits_sets_the_alarm() -> None:
    room = Room(limits(models_max=2, linger=3))
    a, b = backend("a"), backend("b")
    resident(room, a, b)
    room.limits = limits(models_max=1, linger=3)
    assert arrange(room, [], 1) == ([], [])
    assert room.wake_at == 3
    assert arrange(room, [], 3) == ([Stop("a", 1, StopReason.OVER_LIMIT)], [])
