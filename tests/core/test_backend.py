"""The record of one backend."""

import pytest

from llamaproxy.config import BreakerConfig
from llamaproxy.core.backend import Backend, Waiter
from llamaproxy.core.breaker import Breaker
from llamaproxy.core.events import StopReason
from llamaproxy.core.footprint import Footprint
from llamaproxy.core.states import BackendState
from llamaproxy.modelconfig import ModelConfig


def backend(**settings: object) -> Backend:
    config = ModelConfig.model_validate({"path": "/m", **settings})
    return Backend("m", config, Breaker(BreakerConfig()))


def ready(**settings: object) -> Backend:
    made = backend(**settings)
    made.move(BackendState.STARTING)
    made.move(BackendState.READY)
    return made


def test_concurrency_is_twice_the_slots_unless_said() -> None:
    assert backend().concurrency == 8
    assert backend(parallel=3).concurrency == 6
    assert backend(parallel=3, concurrency=1).concurrency == 1


def test_server_elsewhere_knows_itself_how_much_it_can_do() -> None:
    remote = Backend("m", ModelConfig(url="http://m.test"), Breaker(BreakerConfig()))
    assert (remote.remote, remote.concurrency) == (True, 64)
    remote.config = ModelConfig(url="http://m.test", concurrency=2)
    assert remote.concurrency == 2
    assert not backend().remote


def test_what_was_started_here_takes_its_place_until_it_is_gone() -> None:
    """Whatever the configuration says of its successor."""
    b = ready()
    b.config = ModelConfig(url="http://m.test")
    assert not b.remote
    b.gone(now=1)
    assert b.remote


def test_leases_fill_it_and_light_ones_do_not() -> None:
    b = ready(concurrency=1)
    b.add_lease("light", light=True)
    assert b.serves_at_once(light=False)
    b.add_lease("r", light=False)
    assert not b.has_room(light=False)
    assert b.has_room(light=True)
    b.end_lease("r", now=5)
    assert (b.occupied, b.idle_since, b.idle) == (0, 5, False)
    b.end_lease("light", now=6)
    assert b.idle


def test_backend_with_a_queue_is_not_idle() -> None:
    b = ready()
    assert b.idle
    b.enqueue(Waiter("q", 1, 9, light=False))
    assert not b.idle


def test_only_a_ready_one_serves_at_once() -> None:
    assert ready().serves_at_once(light=False)
    assert not backend().serves_at_once(light=True)


def test_nobody_overtakes_one_who_waits_to_have_it_alone() -> None:
    b = ready()
    b.add_lease("r", light=False)
    assert not b.has_room(light=True, exclusive=True)
    b.enqueue(Waiter("suspect", 1, 9, light=False, exclusive=True))
    assert not b.serves_at_once(light=True)
    b.end_lease("r", now=5)
    assert b.has_room(light=False, exclusive=True)


def test_one_who_has_it_alone_has_it_until_the_end() -> None:
    b = ready()
    b.add_lease("suspect", light=False, exclusive=True)
    assert not b.has_room(light=True)
    b.end_lease("suspect", now=5)
    assert b.has_room(light=True)


def test_end_of_a_lease_says_whether_it_was_a_light_one() -> None:
    b = ready()
    b.add_lease("light", light=True)
    b.add_lease("r", light=False)
    assert b.end_lease("light", now=5)
    assert not b.end_lease("r", now=5)


def test_only_what_runs_on_a_process_that_is_not_condemned_says_something_about_it() -> None:
    b = ready()
    b.add_lease("r", light=False)
    assert b.is_judged_by("r")
    assert not b.is_judged_by("of an earlier process")
    b.leaving = StopReason.EVICTED
    assert b.is_judged_by("r")
    b.leaving = StopReason.UNHEALTHY
    assert b.condemned
    assert not b.is_judged_by("r")


def test_queue_is_in_order_of_first_arrival() -> None:
    b = backend()
    for request, since in (("one", 1.0), ("three", 3.0), ("two", 2.0), ("four", 4.0)):
        b.enqueue(Waiter(request, since, 9, light=False))
    assert list(b.queue) == ["one", "two", "three", "four"]


def test_wanted_since_the_first_who_wanted_it() -> None:
    assert backend().wanted_since is None
    b = backend()
    b.enqueue(Waiter("q", 3, 9, light=False))
    assert b.wanted_since == 3
    b.start_wanted = 2
    assert b.wanted_since == 2


def test_who_gave_way_is_wanted_since_then() -> None:
    b = backend()
    b.yielded_at = 5
    b.enqueue(Waiter("before", 3, 99, light=False))
    assert b.wanted_since == 5
    b.yielded_at = 2
    assert b.wanted_since == 3


def test_measurements_follow_the_newest_slowly() -> None:
    b = backend()
    b.measured_load(10)
    b.measured_load(20)
    assert b.load_seconds == pytest.approx(13)
    b.measured_service(1)
    assert b.service_seconds == 1


def test_gone_process_takes_its_leases_with_it() -> None:
    b = ready()
    b.add_lease("r", light=False)
    b.gone(now=7)
    assert (b.state, b.leases, b.occupied, b.leaving, b.idle_since) == (BackendState.STOPPED, {}, 0, None, 7)


def test_process_of_what_the_model_was_before_keeps_what_it_takes_and_is_not_judged() -> None:
    b = ready()
    b.footprint, b.measured, b.company, b.load_seconds = Footprint(8), True, 1, 3.0
    b.add_lease("r", light=False)
    b.forget()
    assert [getattr(b, fact) for fact in ("footprint", "measured", "company", "load_seconds")] == [
        None,
        False,
        None,
        None,
    ]
    assert (b.outdated, b.is_judged_by("r")) == (True, False)
    b.footprint = Footprint(2)
    assert b.takes == Footprint(8)
    b.forget()
    assert b.takes == Footprint(8), "changed twice, it is still the same process"
    b.gone(now=7)
    assert (b.outdated, b.takes) == (False, Footprint())


def test_model_without_a_process_has_nothing_to_keep() -> None:
    b = backend()
    b.footprint = Footprint(8)
    b.breaker.start_failed(0, "it broke")
    b.forget()
    assert (b.takes, b.outdated) == (Footprint(), False)


def test_only_who_loads_or_is_ready_stays() -> None:
    b, stays = backend(), []
    for state in (BackendState.STARTING, BackendState.READY, BackendState.DRAINING, BackendState.STOPPING):
        b.move(state)
        stays.append(b.stays)
    assert stays == [True, True, False, False]
