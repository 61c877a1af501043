"""Events and effects are values."""

import dataclasses
import typing
from typing import Any

import pytest

from llamaproxy.config import BreakerConfig
from llamaproxy.core import events
from llamaproxy.core.events import Effect, Event, Grant, LeaseReleased, News, Outcome, RequestArrived
from llamaproxy.core.footprint import Footprint
from llamaproxy.core.scheduler import Scheduler
from llamaproxy.errors import Unavailable
from tests.core.world import limits, models

VALUES = {
    **{
        "model": "a",
        "request": "r",
        "spawn": 1,
        "deadline": 9.0,
        "error": Unavailable("gone"),
        "outcome": Outcome.SUCCESS,
    },
    **{"footprint": Footprint(1), "measured": True, "models": models("a", "b")},
    **{"limits": limits(), "breaker": BreakerConfig()},
}


EVERY = pytest.mark.parametrize("kind", sorted({*typing.get_args(Event | Effect | News)}, key=str))


@pytest.mark.skipif(not str(events.__file__).endswith(".py"), reason="compiled classes have no docstrings")
@EVERY
def test_every_one_says_what_it_means(kind: type) -> None:
    assert kind.__doc__


@EVERY
def test_every_one_is_frozen(kind: type) -> None:
    assert issubclass(kind, tuple) or kind.__dataclass_params__.frozen  # type: ignore[attr-defined]  # a dataclass has it


def test_equal_content_is_equal() -> None:
    assert Grant("r", "m", 1) == Grant("r", "m", 1) != Grant("r", "m", 2)
    with pytest.raises(AttributeError):
        RequestArrived("r", "m", 1.0).model = "n"  # type: ignore[misc]  # what is tested


def test_everything_that_is_defined_is_one_of_them() -> None:
    here = [kind for kind in vars(events).values() if getattr(kind, "__module__", "") == events.__name__]
    defined = {kind for kind in here if dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")}
    assert defined == {*typing.get_args(Event), *typing.get_args(Effect), *typing.get_args(News)}


def required(kind: Any) -> list[str]:
    if issubclass(kind, tuple):
        return [name for name in kind._fields if name not in kind._field_defaults]
    return [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]


@pytest.mark.parametrize("kind", typing.get_args(Event))
def test_the_scheduler_understands_every_event(kind: type) -> None:
    scheduler = Scheduler(models("a"), limits(), BreakerConfig())
    if kind is LeaseReleased:
        [_, *_] = scheduler.handle(RequestArrived("r", "a", 9.0), 0.0)
        [_] = scheduler.handle(events.BackendReady("a", 1), 0.0)
    scheduler.handle(kind(**{name: VALUES[name] for name in required(kind)}), 1.0)
