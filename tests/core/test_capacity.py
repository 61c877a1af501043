"""Who fits beside whom."""

from llamaproxy.config import BreakerConfig, LimitsConfig
from llamaproxy.core.backend import Backend
from llamaproxy.core.breaker import Breaker
from llamaproxy.core.capacity import Capacity, Plan
from llamaproxy.core.footprint import Footprint
from llamaproxy.core.states import BackendState
from llamaproxy.modelconfig import ModelConfig

LIMITS = LimitsConfig(models_max=3, memory_budget=10, vram_budgets=(8, 4))


def backend(ram: int = 0, *devices: int, state: BackendState = BackendState.READY, **facts: object) -> Backend:
    made = Backend("m", ModelConfig(path="/m"), Breaker(BreakerConfig()), state=state)
    made.footprint = Footprint(ram, devices)
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def test_place_and_every_kind_of_memory_must_be_enough() -> None:
    free = Capacity(LIMITS, [backend(4, 4, 4)])
    assert free.fits(backend(6, 4, 0))
    assert not free.fits(backend(7))
    assert not free.fits(backend(0, 5))
    assert not free.fits(backend(0, 0, 1))
    assert not Capacity(LIMITS, [backend()] * 3).fits(backend())


def test_budget_that_is_not_set_has_no_end() -> None:
    free = Capacity(LimitsConfig(models_max=2), [backend(2**60, 2**60)])
    assert free.fits(backend(2**60, 2**60, 2**60))


def test_what_is_not_known_takes_a_place_only() -> None:
    unknown = backend(footprint=None)
    assert Capacity(LIMITS, [backend(10, 8, 4)]).fits(unknown)
    assert Capacity(LIMITS, [unknown, unknown]).fits(backend(10, 8, 4))


def test_who_died_beside_others_wants_fewer() -> None:
    shy = backend(company=1)
    assert Capacity(LIMITS, [backend()]).fits(shy)
    beside_two = Capacity(LIMITS, [backend()] * 2)
    assert not beside_two.fits(shy)
    assert beside_two.affords(shy)


def test_who_goes_gives_everything_back() -> None:
    large = backend(10, 8, 4)
    free = Capacity(LIMITS, [large])
    assert not free.fits(large)
    assert free.copy().give(large).fits(large)
    assert not free.fits(large), "a copy is another one"


def test_more_than_there_is_is_overdrawn() -> None:
    free = Capacity(LIMITS, [backend(10)])
    assert not free.overdrawn
    free.take(backend(1))
    assert free.overdrawn


def test_plan_looks_at_three_times() -> None:
    states = (BackendState.READY, BackendState.STOPPING, BackendState.DRAINING)
    plan = Plan(LIMITS, [backend(3, state=state) for state in states])
    assert [time.fits(backend(4)) for time in (plan.free, plan.promised, plan.later)] == [False, True, True]
    assert [time.fits(backend(7)) for time in (plan.free, plan.promised, plan.later)] == [False, False, True]


def test_promise_counts_from_now_on() -> None:
    plan = Plan(LIMITS, [victim := backend(8)])
    new = backend(6)
    assert not plan.promise(new, [victim])
    assert not plan.promised.fits(backend(5))
    assert plan.promise(backend(2), []), "there is room now"
    assert not plan.free.fits(backend(1))


def test_who_waits_for_a_drain_keeps_what_it_needs_besides() -> None:
    plan = Plan(LIMITS, [backend(5, state=BackendState.DRAINING)])
    plan.keep_for(backend(7))
    assert plan.promised.fits(backend(3))
    assert not plan.promised.fits(backend(4))


def test_what_was_measured_counts_up_to_its_budget() -> None:
    large = backend(25, 9, measured=True)
    assert Capacity(LIMITS).fits(large)
    assert not Capacity(LIMITS).fits(backend(25, 9))
    assert not Capacity(LIMITS, [large]).overdrawn
    assert not Capacity(LIMITS, [large]).fits(backend(1))


def test_who_needs_nothing_of_what_is_overdrawn_fits() -> None:
    left = Capacity(LIMITS, [backend(1, 9)])
    assert left.overdrawn
    assert left.fits(backend(5, 0))
    assert not left.fits(backend(5, 1))


def test_only_who_takes_of_what_is_overdrawn_relieves_it() -> None:
    left = Capacity(LIMITS, [backend(1, 9)])
    assert left.relieved_by(backend(0, 1))
    assert not left.relieved_by(backend(9, 0))
    assert not Capacity(LIMITS).relieved_by(backend(9, 9, 9))


def test_shy_one_that_starts_is_shielded_from_more_company() -> None:
    shy = backend(company=1, state=BackendState.STARTING)
    plan = Plan(LIMITS, [shy, backend()])
    assert not plan.promise(backend(), []), "its room is promised, and nobody has to go for it"
    assert not plan.promised.affords(backend()), "three places are taken then"
    shy.state = BackendState.READY
    assert Plan(LIMITS, [shy, backend()]).promise(backend(), [])


def test_shy_one_that_has_room_promised_is_shielded_before_it_starts() -> None:
    going = backend(state=BackendState.STOPPING)
    plan = Plan(LIMITS, [going])
    assert not plan.promise(backend(company=0), [])
    assert not plan.promise(backend(), [])


def test_shy_one_that_waits_for_others_is_shielded_too() -> None:
    plan = Plan(LIMITS, [backend(state=BackendState.DRAINING)])
    plan.keep_for(backend(company=0))
    assert not plan.promised.fits(backend())
    assert not plan.later.affords(backend()), "the drain is not called off"
