"""What the loads are, and what can be known of them beforehand."""

import tomllib
from typing import Any

from bench.load import Ask
from bench.peers import to_toml
from bench.scenarios import alternating, fewest_starts


def test_models_take_turns() -> None:
    assert [ask.model for ask in alternating("ab", 5)] == ["a", "b", "a", "b", "a"]


def test_a_client_alone_swaps_for_every_change() -> None:
    assert fewest_starts(alternating("ab", 6), clients=1) == 6
    assert fewest_starts([Ask(model) for model in "aabb"], clients=1) == 2


def test_enough_clients_need_each_model_once() -> None:
    assert fewest_starts(alternating("ab", 6), clients=6) == 2
    assert fewest_starts([], clients=6) == 0


def test_loads_that_are_measured() -> None:
    """Worked out by hand: every swap waits until all clients want the other model."""
    assert fewest_starts(alternating("ab", 60), clients=2) == 21
    assert fewest_starts(alternating("ab", 100), clients=16) == 5


def test_configuration_is_toml() -> None:
    sections: dict[str, dict[str, Any]] = {
        "limits": {"max_wait": 5.0},
        "models.a": {"path": 'a "b"', "args": ["--x"], "pinned": True},
    }
    expected = {"limits": {"max_wait": 5.0}, "models": {"a": {"path": 'a "b"', "args": ["--x"], "pinned": True}}}
    assert tomllib.loads(to_toml(sections)) == expected
