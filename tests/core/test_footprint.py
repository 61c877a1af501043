"""Footprints as values."""

from llamaproxy.core.footprint import Footprint, merged, raised


def test_larger_part_of_each_counts_and_missing_devices_are_empty_ones() -> None:
    assert merged(Footprint(5, (1, 9)), Footprint(3, (2,))) == Footprint(5, (2, 9))
    assert merged(Footprint(3), Footprint(5, (1, 2, 3))) == Footprint(5, (1, 2, 3))


def test_death_for_want_of_memory_adds_a_quarter() -> None:
    assert raised(Footprint(100, (8, 4))) == Footprint(125, (10, 5))


def test_raise_upon_raise_stays_below_what_a_budget_can_be() -> None:
    footprint = Footprint(2**40, (2**50,))
    for _ in range(5000):
        footprint = raised(footprint)
    assert footprint == Footprint(2**53, (2**53,))
