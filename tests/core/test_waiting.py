"""The waiting room's books agree with each other."""

from llamaproxy.config import BreakerConfig
from llamaproxy.core.backend import Backend, Waiter
from llamaproxy.core.breaker import Breaker
from llamaproxy.core.events import Effect, Reject
from llamaproxy.core.states import BackendState
from llamaproxy.core.waiting import MAX_RETRY_AFTER, WaitingRoom, patience
from llamaproxy.errors import ShuttingDown
from llamaproxy.modelconfig import ModelConfig


def backend(name: str = "m", **settings: object) -> Backend:
    return Backend(name, ModelConfig.model_validate({"path": "/m", **settings}), Breaker(BreakerConfig()))


def waiter(request: str, since: float = 0, deadline: float = 10) -> Waiter:
    return Waiter(request, since, deadline, light=False)


def test_who_is_taken_is_nowhere_any_more() -> None:
    room, b = WaitingRoom(), backend()
    room.add(b, waiter("r"))
    assert len(room) == 1 and room.wanted() == [b]
    taken = room.take("r")
    assert taken and taken[0] is b and taken[1].request == "r"
    assert (len(room), room.wanted(), list(b.queue), room.take("r")) == (0, [], [], None)


def test_each_who_waits_is_told_once_and_nobody_wants_it_any_more() -> None:
    room, b, other = WaitingRoom(), backend("m"), backend("other")
    for request in ("first", "second"):
        room.add(b, waiter(request))
    room.add(other, waiter("stays"))
    room.want(b, 5)
    out: list[Effect] = []
    room.reject_all(b, ShuttingDown("over"), out)
    assert [effect.request for effect in out if isinstance(effect, Reject)] == ["first", "second"]
    assert (room.wanted(), len(room), b.start_wanted) == ([other], 1, None)
    room.reject_all(b, ShuttingDown("over"), out)
    assert len(out) == 2


def test_probe_that_leaves_makes_way_for_another() -> None:
    room, b = WaitingRoom(), backend()
    for _ in range(3):
        b.breaker.start_failed(0, "broken")
    assert b.breaker.admits("probe", 1000) and not b.breaker.admits("second", 1000)
    room.add(b, waiter("probe"))
    room.leave("probe")
    assert b.breaker.admits("second", 1000)
    room.leave("probe")
    assert len(room) == 0


def test_wanting_without_a_request_keeps_it_wanted() -> None:
    room, b = WaitingRoom(), backend()
    room.want(b, 5)
    room.want(b, 7)
    assert b.start_wanted == 5
    room.add(b, waiter("r", since=6))
    room.take("r")
    assert room.wanted() == [b]
    room.want_no_more(b)
    assert room.wanted() == []


def test_cold_ones_come_longest_wanted_first() -> None:
    room = WaitingRoom()
    late, early, running = backend("late"), backend("early"), backend("running")
    running.state = BackendState.READY
    for b, since in ((late, 5), (early, 1), (running, 0)):
        room.add(b, waiter(b.name, since=since))
    assert room.cold() == [early, late]


def test_deadlines_come_in_order_and_those_taken_are_forgotten() -> None:
    room, b = WaitingRoom(), backend()
    for request, deadline in (("c", 30.0), ("a", 10.0), ("b", 20.0)):
        room.add(b, waiter(request, deadline=deadline))
    assert room.next_deadline() == 10
    room.take("a")
    assert room.next_deadline() == 20
    assert [waiter.request for _, waiter in room.expire(30)] == ["b", "c"]
    assert room.next_deadline() is None


def test_same_name_again_has_its_new_deadline() -> None:
    room, b = WaitingRoom(), backend()
    room.add(b, waiter("r", deadline=10))
    room.take("r")
    room.add(b, waiter("r", deadline=50))
    assert room.next_deadline() == 50


def test_deadlines_of_those_who_were_served_do_not_pile_up_behind_one_who_is_patient() -> None:
    room, b = WaitingRoom(), backend()
    room.add(b, waiter("patient", deadline=1))
    for number in range(10_000):
        room.add(b, waiter(str(number), deadline=2 + number))
        if number % 100:
            room.take(str(number))
    assert len(room._deadlines) < 500
    assert room.next_deadline() == 1
    room.take("patient")
    assert room.next_deadline() == 2


def test_who_made_room_in_this_instant_comes_after_those_it_was_made_for() -> None:
    room, gave_way, other = WaitingRoom(), backend("gave way"), backend("other")
    room.add(gave_way, waiter("first", since=1))
    room.add(other, waiter("second", since=5))
    gave_way.yielded_at = 5
    assert room.cold() == [other, gave_way]


def test_patience_counts_turns_and_the_load() -> None:
    b = backend(concurrency=2)
    assert patience(b) == 2, "a second to load and a second to serve, where nothing was measured"
    b.measured_load(20)
    b.measured_service(3)
    for number in range(4):
        b.enqueue(waiter(str(number)))
    assert patience(b) == 20 + 3 * 3
    b.measured_load(10_000)
    assert patience(b) == MAX_RETRY_AFTER
