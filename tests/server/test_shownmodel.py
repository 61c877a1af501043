"""llamaproxy.server.shownmodel: numbers only where they mean something."""

import pytest

from llamaproxy.config import Config
from llamaproxy.core.backend import Backend
from llamaproxy.core.footprint import Footprint
from llamaproxy.core.scheduler import Scheduler
from llamaproxy.core.states import BackendState
from llamaproxy.server import shownmodel as module
from llamaproxy.server.shownmodel import ShownFailure, ShownFootprint


@pytest.fixture
def backend() -> Backend:
    config = Config.model_validate({"models": {"m": {"path": "/m"}}})
    return Scheduler(config.models, config.limits, config.breaker).backends["m"]


@pytest.mark.parametrize("state", BackendState)
def test_each_state_has_its_own_time(backend: Backend, state: BackendState) -> None:
    backend.state, backend.started_at, backend.idle_since = state, 10.0, 12.0
    assert module.idle(backend, 15.04) == (3.0 if state is BackendState.READY else None)
    assert module.starting_for(backend, 15.04) == (5.0 if state is BackendState.STARTING else None)


def test_who_serves_is_not_idle(backend: Backend) -> None:
    backend.state, backend.idle_since = BackendState.READY, 12.0
    backend.leases["r"] = False
    assert module.idle(backend, 15.0) is None


def test_only_an_open_breaker_has_an_end(backend: Backend) -> None:
    assert module.retry_in(backend, 0.0) is None
    for _ in range(3):
        backend.breaker.start_failed(1.0, "it died")
    open_for = module.retry_in(backend, 1.0)
    assert open_for and module.retry_in(backend, 1.0 + open_for + 1) is None


def test_nothing_known_is_nothing_shown(backend: Backend) -> None:
    assert module.footprint_of(None, measured=True) is None
    assert module.footprint_of(Footprint(5, (7,)), measured=True) == ShownFootprint(5, (7,), True)
    assert module.failure_of(backend) is None
    backend.last_words = "no such file"
    assert module.failure_of(backend) == ShownFailure("", "no such file")
