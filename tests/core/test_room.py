"""Places for backends."""

from llamaproxy.config import BreakerConfig, ModelConfig
from llamaproxy.core.backend import Backend
from llamaproxy.core.breaker import Breaker
from llamaproxy.core.events import Drain, Effect, Resume, Start, Stop, StopReason
from llamaproxy.core.room import Room
from llamaproxy.core.states import BackendState
from llamaproxy.errors import Unavailable
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
