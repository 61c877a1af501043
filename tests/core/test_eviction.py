"""Who makes room, and when."""

from llamaproxy.config import BreakerConfig, LimitsConfig
from llamaproxy.core.backend import Backend
from llamaproxy.core.breaker import Breaker
from llamaproxy.core.capacity import Capacity
from llamaproxy.core.events import Grounds
from llamaproxy.core.eviction import Victims, busy_victims, enough, grounds, idle_victims, linger, relief
from llamaproxy.core.footprint import Footprint
from llamaproxy.core.states import BackendState
from llamaproxy.modelconfig import ModelConfig

LIMITS = LimitsConfig(linger=1, min_residency=5)
NOBODY = Victims([], None)


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
    assert idle_victims([a, b, c], LIMITS, 100) == Victims([c, b, a], None)


def test_priority_counts_before_age() -> None:
    old, unimportant = backend("old", idle=1, priority=1), backend("unimportant", idle=50)
    assert idle_victims([old, unimportant], LIMITS, 100) == Victims([unimportant, old], None)


def test_grounds_are_the_rule_that_decided() -> None:
    old, young = backend("old", idle=1), backend("young", idle=9)
    twin, unimportant = backend("twin", idle=1), backend("unimportant", idle=9, priority=-1)
    assert grounds(old, [old]) is Grounds.ONLY_ONE
    assert grounds(old, [old, young]) is Grounds.LEAST_RECENTLY_USED
    assert grounds(old, [old, twin]) is Grounds.LOADS_FASTEST
    assert grounds(unimportant, [unimportant, old]) is Grounds.PRIORITY


def test_busy_pinned_and_moving_ones_stay() -> None:
    moving = backend("moving")
    moving.state = BackendState.STARTING
    assert idle_victims([busy(backend("a")), backend("b", pinned=True), moving], LIMITS, 100) == NOBODY


def test_one_that_lingers_says_until_when() -> None:
    assert idle_victims([backend("a", idle=10), backend("b", idle=9.5)], LIMITS, 10) == Victims([], 10.5)


def test_busy_one_that_had_its_turn_for_longest_is_drained() -> None:
    a, b = busy(backend("a", ready=2)), busy(backend("b", ready=1))
    assert busy_victims([a, b], LIMITS, 100) == Victims([b, a], None)
    assert busy_victims([busy(backend("a", ready=1, priority=1)), b], LIMITS, 100).now[0] is b


def test_idle_one_goes_before_any_busy_one_once_its_linger_is_over() -> None:
    idle, unimportant = backend("idle", ready=99, idle=99), busy(backend("unimportant", priority=-1))
    assert busy_victims([unimportant, idle], LIMITS, 99.5) == Victims([unimportant], 100)
    assert busy_victims([unimportant, idle], LIMITS, 100) == Victims([idle, unimportant], None)


def test_busy_one_is_left_alone_while_it_is_new_or_pinned() -> None:
    assert busy_victims([busy(backend("a", ready=98))], LIMITS, 100) == Victims([], 103)
    assert busy_victims([busy(backend("a", pinned=True))], LIMITS, 100) == NOBODY


def test_nobody_is_nobodys_victim() -> None:
    assert idle_victims([], LIMITS, 100) == NOBODY
    assert busy_victims([], LIMITS, 100) == NOBODY


def test_linger_and_residency_end_at_their_very_instant() -> None:
    assert idle_victims([backend("a", idle=10)], LIMITS, 11).now
    assert busy_victims([busy(backend("a", ready=10))], LIMITS, 15).now


def test_backend_that_leaves_already_is_not_chosen_twice() -> None:
    draining, stopping = busy(backend("draining")), backend("stopping")
    draining.state, stopping.state = BackendState.DRAINING, BackendState.STOPPING
    assert idle_victims([draining, stopping], LIMITS, 100) == NOBODY
    assert busy_victims([draining, stopping], LIMITS, 100) == NOBODY


class TestEnough:
    def memory(self, budget: int, *taken: Backend) -> Capacity:
        return Capacity(LimitsConfig(models_max=10, memory_budget=budget), taken)

    def sized(self, name: str, size: int) -> Backend:
        made = backend(name)
        made.footprint = Footprint(size)
        return made

    def test_nobody_has_to_go_where_there_is_room(self) -> None:
        assert enough(self.sized("new", 4), self.memory(10, idle := self.sized("idle", 6)), [idle]) == []

    def test_as_many_go_as_it_takes_and_in_their_order(self) -> None:
        a, b, c = (self.sized(name, 3) for name in "abc")
        assert enough(self.sized("new", 5), self.memory(9, a, b, c), [a, b, c]) == [a, b]

    def test_nobody_goes_in_vain(self) -> None:
        a, b = self.sized("a", 3), self.sized("b", 3)
        assert enough(self.sized("new", 9), self.memory(8, a, b), [a, b]) is None

    def test_one_whose_leaving_turns_out_not_to_matter_stays(self) -> None:
        small, large = self.sized("small", 1), self.sized("large", 8)
        assert enough(self.sized("new", 8), self.memory(9, small, large), [small, large]) == [large]


class TestRelief:
    LIMITS = LimitsConfig(models_max=10, memory_budget=10, vram_budgets=(6,))

    def sized(self, name: str, *size: int) -> Backend:
        made = backend(name)
        made.footprint = Footprint(size[0], size[1:])
        return made

    def names(self, *there: Backend, victims: list[Backend]) -> str:
        return "".join(victim.name for victim in relief(Capacity(self.LIMITS, there), victims))

    def test_nobody_goes_where_nothing_is_overdrawn(self) -> None:
        a = self.sized("a", 10)
        assert self.names(a, victims=[a]) == ""

    def test_as_many_go_as_it_takes_and_in_their_order(self) -> None:
        a, b, c = (self.sized(name, 5) for name in "abc")
        assert self.names(a, b, c, victims=[b, a, c]) == "b"

    def test_who_takes_nothing_of_it_stays(self) -> None:
        cpu, gpu = self.sized("c", 1, 0), self.sized("g", 1, 7)
        assert self.names(cpu, gpu, victims=[cpu, gpu]) == "g"

    def test_one_whose_leaving_turns_out_not_to_matter_stays(self) -> None:
        small, large = self.sized("s", 1), self.sized("l", 11)
        assert self.names(small, large, victims=[small, large]) == "l"

    def test_too_little_is_better_than_nothing(self) -> None:
        idle, busy = self.sized("i", 5), self.sized("b", 12)
        assert self.names(idle, busy, victims=[idle]) == "i"
