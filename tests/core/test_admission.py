"""What a request hears before it is queued, in the order of the questions."""

import pytest

from llamaproxy.config import BreakerConfig
from llamaproxy.core.admission import Admission
from llamaproxy.core.backend import Backend, Waiter
from llamaproxy.core.breaker import Breaker
from llamaproxy.core.events import RequestArrived
from llamaproxy.core.footprint import Footprint
from llamaproxy.core.room import Room
from llamaproxy.core.waiting import WaitingRoom
from tests.core.world import limits, models

ARRIVAL = RequestArrived("r", "a", 9.0)


@pytest.fixture
def backend() -> Backend:
    return Backend("a", models("a", queue_size=1)["a"], Breaker(BreakerConfig(start_failures=1, open=10)))


@pytest.fixture
def waiting() -> WaitingRoom:
    return WaitingRoom()


@pytest.fixture
def admission(waiting: WaitingRoom) -> Admission:
    bounds = limits(queue_size=2, memory_budget=10)
    return Admission(bounds, Room(bounds), waiting)


def answer(admission: Admission, backend: Backend | None, at_once: bool = False) -> str | None:
    error = admission.refusal(backend, ARRIVAL, at_once, 0.0)
    return error.code if error else None


def queue(waiting: WaitingRoom, backend: Backend, name: str) -> None:
    waiting.add(backend, Waiter(name, 0.0, 9.0, light=False))


def test_who_may_wait_hears_nothing(admission: Admission, backend: Backend) -> None:
    assert answer(admission, backend) is None


def test_model_that_is_not_there_or_no_more(admission: Admission, backend: Backend) -> None:
    assert answer(admission, None) == "model_not_found"
    backend.removed = True
    assert answer(admission, backend) == "model_not_found"


def test_gateway_that_goes_down(admission: Admission, backend: Backend) -> None:
    admission.closing = True
    assert answer(admission, backend) == "shutting_down"


def test_open_breaker_and_why(admission: Admission, backend: Backend) -> None:
    backend.breaker.start_failed(0.0, "it broke")
    error = admission.refusal(backend, ARRIVAL, False, 4.0)
    assert error
    assert (error.code, error.retry_after) == ("model_unavailable", 6.0)
    assert "it broke" in error.message


def test_full_queues(admission: Admission, backend: Backend, waiting: WaitingRoom) -> None:
    other = Backend("b", models("b")["b"], Breaker(BreakerConfig()))
    queue(waiting, backend, "own")
    assert answer(admission, backend) == "queue_full"
    assert answer(admission, other) is None
    queue(waiting, other, "others")
    assert answer(admission, other) == "queue_full"


def test_more_memory_than_all_models_may_take_together(admission: Admission, backend: Backend) -> None:
    backend.footprint = Footprint(11)
    assert answer(admission, backend) == "model_out_of_memory"


def test_refused_probe_gives_its_turn_back(admission: Admission, backend: Backend, waiting: WaitingRoom) -> None:
    backend.breaker.start_failed(0.0, "it broke")
    queue(waiting, backend, "other")
    late = admission.refusal(backend, ARRIVAL, False, 11.0)
    assert late
    assert late.code == "queue_full"
    assert backend.breaker.admits("another", 11.0)


def test_backend_with_a_place_asks_for_no_room(admission: Admission, backend: Backend) -> None:
    backend.footprint = Footprint(11)
    assert answer(admission, backend, at_once=True) is None
