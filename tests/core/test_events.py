"""Events and effects are values."""

import dataclasses
import typing

import pytest

from llamaproxy.core.events import Effect, Event, Grant, RequestArrived


@pytest.mark.parametrize("kind", [*typing.get_args(Event), *typing.get_args(Effect)])
def test_every_one_is_frozen_and_says_what_it_means(kind: type) -> None:
    assert kind.__doc__
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]  # dataclasses have it, their type does not


def test_equal_content_is_equal() -> None:
    assert Grant("r", "m", 1) == Grant("r", "m", 1) != Grant("r", "m", 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        RequestArrived("r", "m", 1.0).model = "n"  # type: ignore[misc]  # what is tested
