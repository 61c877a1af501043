"""Footprints as values."""

from llamaproxy.config import LimitsConfig
from llamaproxy.core.footprint import Footprint, merged, raised, within


def test_larger_part_of_each_counts_and_missing_devices_are_empty_ones() -> None:
    assert merged(Footprint(5, (1, 9)), Footprint(3, (2,))) == Footprint(5, (2, 9))
    assert merged(Footprint(3), Footprint(5, (1, 2, 3))) == Footprint(5, (1, 2, 3))


def test_death_for_want_of_memory_adds_a_quarter() -> None:
    assert raised(Footprint(100, (8, 4)), LimitsConfig()) == Footprint(125, (10, 5))


def test_nothing_is_reckoned_larger_than_its_budget() -> None:
    budgets = LimitsConfig(memory_budget=110, vram_budgets=(9,))
    assert raised(Footprint(100, (8, 4)), budgets) == Footprint(110, (9, 5))
    assert within(Footprint(7, ()), budgets) == Footprint(7, ())
    assert within(Footprint(200, (10,)), LimitsConfig(memory_budget=110, vram_budgets=(9, 9))) == Footprint(110, (9,))
