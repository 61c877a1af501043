"""Who makes room, and when."""

from llamaproxy.config import BreakerConfig, LimitsConfig, ModelConfig
from llamaproxy.core.backend import Backend
from llamaproxy.core.breaker import Breaker
from llamaproxy.core.eviction import busy_victim, idle_victim, linger
from llamaproxy.core.states import BackendState

LIMITS = LimitsConfig(linger=1, min_residency=5)


def backend(name: str, *, idle: float = 0, ready: float = 0, load: float | None = None, **settings: object) -> Backend:
    config = ModelConfig.model_validate({"path": "/m", **settings})
    made = Backend(name, config, Breaker(BreakerConfig()), state=BackendState.READY)
    made.idle_since, made.ready_since, made.load_seconds = idle, ready, load
    return made


def busy(made: Backend) -> Backend:
    made.add_lease("r", light=False)
    return made


def test_linger_is_a_tenth_of_the_load_and_bounded() -> None:
    automatic = LimitsConfig()
    assert linger(backend("a"), automatic) == 0.1
    assert linger(backend("a", load=0.5), automatic) == 0.05
    assert linger(backend("a", load=60), automatic) == 0.1
    assert linger(backend("a", load=60), LIMITS) == 1


def test_longest_idle_goes_then_the_one_that_loads_fastest() -> None:
    a, b, c = backend("a", idle=3, load=1), backend("b", idle=2, load=9), backend("c", idle=2, load=5)
    assert idle_victim([a, b, c], LIMITS, 100) == (c, None)


def test_priority_counts_before_age() -> None:
    old, unimportant = backend("old", idle=1, priority=1), backend("unimportant", idle=50)
    assert idle_victim([old, unimportant], LIMITS, 100) == (unimportant, None)


def test_busy_pinned_and_moving_ones_stay() -> None:
    moving = backend("moving")
    moving.state = BackendState.STARTING
    assert idle_victim([busy(backend("a")), backend("b", pinned=True), moving], LIMITS, 100) == (None, None)


def test_one_that_lingers_says_until_when() -> None:
    assert idle_victim([backend("a", idle=10), backend("b", idle=9.5)], LIMITS, 10) == (None, 10.5)


def test_busy_one_that_had_its_turn_for_longest_is_drained() -> None:
    a, b = busy(backend("a", ready=2)), busy(backend("b", ready=1))
    assert busy_victim([a, b], LIMITS, 100) == (b, None)
    assert busy_victim([busy(backend("a", ready=1, priority=1)), b], LIMITS, 100)[0] is b


def test_busy_one_is_left_alone_while_it_is_new_or_pinned() -> None:
    assert busy_victim([busy(backend("a", ready=98))], LIMITS, 100) == (None, 103)
    assert busy_victim([busy(backend("a", pinned=True))], LIMITS, 100) == (None, None)


def test_nobody_is_nobodys_victim() -> None:
    assert idle_victim([], LIMITS, 100) == (None, None)
    assert busy_victim([], LIMITS, 100) == (None, None)


def test_linger_and_residency_end_at_their_very_instant() -> None:
    assert idle_victim([backend("a", idle=10)], LIMITS, 11)[0]
    assert busy_victim([busy(backend("a", ready=10))], LIMITS, 15)[0]


def test_backend_that_leaves_already_is_not_chosen_twice() -> None:
    draining, stopping = busy(backend("draining")), backend("stopping")
    draining.state, stopping.state = BackendState.DRAINING, BackendState.STOPPING
    assert idle_victim([draining, stopping], LIMITS, 100) == (None, None)
    assert busy_victim([draining, stopping], LIMITS, 100) == (None, None)
