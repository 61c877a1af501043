"""Which models there are, and what becomes of them."""

import pytest

from llamaproxy.config import BreakerConfig, LimitsConfig
from llamaproxy.core.events import ModelsChanged
from llamaproxy.core.roster import Changes, Roster
from llamaproxy.core.states import BackendState
from llamaproxy.modelconfig import ModelConfig
from tests.core.world import models

RULES = BreakerConfig(open=7)


@pytest.fixture
def roster() -> Roster:
    return Roster(models("a", "b"), BreakerConfig())


def change(roster: Roster, catalogue: dict[str, ModelConfig], *replaced: str) -> Changes:
    return roster.adopt(ModelsChanged(catalogue, LimitsConfig(), RULES, frozenset(replaced)))


def names(changes: Changes) -> tuple[list[str], list[str]]:
    return [b.name for b in changes.removed], [b.name for b in changes.replaced]


def test_same_models_are_no_change(roster: Roster) -> None:
    before = dict(roster.backends)
    assert change(roster, models("a", "b")) == Changes([], [])
    assert roster.backends == before


def test_new_model_has_a_backend_and_is_no_change_of_anybody(roster: Roster) -> None:
    assert change(roster, models("a", "b", "c")) == Changes([], [])
    assert roster.model("c")


def test_model_that_is_gone_is_told_once_and_kept_until_it_is_dropped(roster: Roster) -> None:
    assert names(change(roster, models("a"))) == (["b"], [])
    assert names(change(roster, models("a"))) == ([], [])
    assert roster.model("b") is None
    roster.drop_if_removed(roster.backends["b"])
    assert list(roster.backends) == ["a"]


def test_model_whose_process_would_be_another_is_replaced(roster: Roster) -> None:
    assert names(change(roster, {**models("a", ctx_size=512), **models("b", ttl=3)})) == ([], ["a"])
    assert names(change(roster, {**models("a", ctx_size=512), **models("b", ttl=3)}, "b")) == ([], ["b"])


def test_settings_and_rules_are_taken_over_by_everybody(roster: Roster) -> None:
    change(roster, {**models("a", ctx_size=512), **models("b", ttl=3)})
    assert (roster.backends["a"].config.ctx_size, roster.backends["b"].config.ttl) == (512, 3)
    assert {backend.breaker.config.open for backend in roster.backends.values()} == {7}


def test_nothing_is_dropped_that_is_there_or_has_a_process(roster: Roster) -> None:
    a, b = roster.backends.values()
    b.state = BackendState.STOPPING
    change(roster, models("a"))
    for backend in (a, b):
        roster.drop_if_removed(backend)
    assert list(roster.backends) == ["a", "b"]


def test_model_that_comes_back_before_it_was_dropped_is_there_again(roster: Roster) -> None:
    change(roster, models("a"))
    assert change(roster, models("a", "b")) == Changes([], [])
    assert roster.model("b")


def test_process_is_known_by_its_number(roster: Roster) -> None:
    roster.backends["a"].spawn = 3
    assert roster.process("a", 3) is roster.backends["a"]
    assert roster.process("a", 2) is None
    assert roster.process("nobody", 3) is None


def test_numbers_go_on_where_a_dropped_model_left_off(roster: Roster) -> None:
    roster.backends["b"].spawn = 7
    change(roster, models("a"))
    roster.drop_if_removed(roster.backends["b"])
    change(roster, models("a", "b"))
    assert roster.backends["b"].spawn == 7
