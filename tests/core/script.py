"""Words for scripts: worlds to begin with, and what happens in one step and is looked at."""

from typing import Any

from llamaproxy.config import BreakerConfig
from llamaproxy.core.events import Effect, Reject
from tests.core.world import World, limits, models

BREAKER = BreakerConfig(start_failures=3, request_failures=2, open=10, open_max=40)


def world(*names: str, settings: dict[str, Any] | None = None, **bounds: Any) -> World:
    """A world of models with the same settings and these limits."""
    return World(models(*(names or ("a", "b")), **(settings or {})), limits(**bounds), BREAKER)


def mixed(settings: dict[str, dict[str, Any]], **bounds: Any) -> World:
    """A world of models with settings of their own."""
    catalogue = {name: models(name, **values)[name] for name, values in settings.items()}
    return World(catalogue, limits(**bounds), BREAKER)


def sized(sizes: dict[str, int | tuple[int, ...]], pinned: str = "", **bounds: Any) -> World:
    """A world of models with these estimates, five places, and a budget of 10 unless said otherwise."""
    made = mixed(
        {name: {"pinned": name in pinned} for name in sizes}, **{"models_max": 5, "memory_budget": 10, **bounds}
    )
    for name, size in sizes.items():
        made.weigh(name, *((size,) if isinstance(size, int) else size))
    return made


def ready(world: World, *names: str) -> None:
    """Each of these has been loaded, in this order, and rests."""
    for name in names:
        world.request_start(name)
        world.become_ready(name)
        world.now += 10


def put(world: World, model: str, **settings: Any) -> None:
    """From now on the model is in the configuration, with these settings and no others."""
    world.reconfigure({**world.models, **models(model, **settings)})


def remove(world: World, model: str) -> None:
    world.reconfigure({name: config for name, config in world.models.items() if name != model})


def only(effects: list[Effect]) -> Effect:
    (effect,) = effects
    return effect


def refusal(effects: list[Effect]) -> tuple[str, float | None]:
    """Code and Retry-After of the one rejection."""
    effect = only(effects)
    assert isinstance(effect, Reject)
    return effect.error.code, effect.error.retry_after


def arrival(world: World, model: str, request: str = "late", light: bool = False) -> list[Effect]:
    world.arrive(model, 60, light, request)
    return world.effects
