"""Random walks through a world: arrivals, ends, failures and deaths; in some worlds memory, or new configurations."""

import random
from collections.abc import Callable, Iterable

from llamaproxy.config import BreakerConfig, LimitsConfig
from llamaproxy.core.events import Outcome
from llamaproxy.modelconfig import ModelConfig
from tests.core.books import Phase
from tests.core.world import World, remote

NAMES = "abcdef"


def any_world(chance: random.Random, memory: bool) -> World:
    """Small and cramped, so that everything is in everybody's way."""
    bounds = any_limits(chance, memory)
    count = min(len(NAMES), bounds.models_max + chance.randint(0, 3))
    here = {name: any_model(chance) for name in NAMES[:count]}
    there = remote("r", concurrency=chance.choice((1, 3, None)), queue_size=chance.choice((None, 2)))
    world = World(here | there if chance.random() < 0.5 else here, bounds, any_breaker(chance))
    if memory:
        for name in here:
            if chance.random() < 0.9:
                world.weigh(name, *any_size(chance))
    return world


def any_limits(chance: random.Random, memory: bool) -> LimitsConfig:
    return LimitsConfig(
        models_max=chance.randint(2, 5) if memory else chance.randint(1, 3),
        memory_budget=chance.choice((None, 8, 10, 16)) if memory else None,
        vram_budgets=chance.choice(((), (), (8,), (6, 4))) if memory else (),
        linger=chance.choice((None, 0.0, 0.1, 1.0)),
        max_wait=chance.choice((0.0, 2.0, 15.0)),
        min_residency=chance.choice((0.0, 1.0, 5.0)),
        queue_size=chance.choice((3, 20, 512)),
    )


def any_breaker(chance: random.Random) -> BreakerConfig:
    return BreakerConfig(
        start_failures=chance.randint(1, 3),
        request_failures=chance.randint(1, 5),
        open=chance.choice((1.0, 10.0)),
        open_max=chance.choice((2.0, 20.0, 300.0)),
    )


def any_size(chance: random.Random) -> tuple[int, ...]:
    """RAM and devices; now and then more than there is."""
    return (chance.choice((0, 1, 2, 3, 5, 8, 8, 11)), *(chance.choice((0, 0, 1, 3, 6)) for _ in range(2)))


def any_model(chance: random.Random) -> ModelConfig:
    return ModelConfig(
        path=chance.choice(("/x", "/x", "/y")),
        pinned=chance.random() < 0.1,
        priority=chance.choice((0, 0, 0, 1)),
        concurrency=chance.choice((1, 2, 3, None)),
        parallel=chance.choice((1, None)),
        queue_size=chance.choice((None, None, 2)),
        ttl=chance.choice((None, None, 3.0)),
        preload=chance.random() < 0.2,
    )


class Walk:
    """Steps at random; what cannot happen now is passed over.

    Every second world has memory, and every second pair of worlds is reconfigured as it goes.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._ranks = random.Random(seed)
        self.memory, self.reload = bool(seed & 1), bool(seed & 2)
        self.world = any_world(self.chance, self.memory)
        # Half of the traffic goes to one model, or nothing would ever be busy.
        self.popular, *_ = list(self.world.models)
        self.names = NAMES if self.reload else list(self.world.models)
        weights: dict[Callable[[], None], int] = {
            self.arrive: 30,
            self.leave: 3,
            self.release: 22,
            self.answer: 3,
            self.become_ready: 12,
            self.finish_stop: 12,
            self.die: 2,
            self.command: 2,
            self.hear_old_news: 1,
            self.wait: 14,
            self.weigh: 2 * self.memory,
            self.starve: 2 * self.memory,
            self.reconfigure: 2 * self.reload,
        }
        self.actions, self.weights = list(weights), list(weights.values())

    def run(self, steps: int) -> World:
        self.go(steps)
        self.world.quiesce()
        self.go(self.chance.choice((0, 50)))
        if self.chance.random() < 0.5:
            self.world.begin_drain()
            self.go(50)
        self.world.end()
        return self.world

    def go(self, steps: int) -> None:
        for action in self.chance.choices(self.actions, self.weights, k=steps):
            action()

    def pick(self, things: Iterable[str]) -> str | None:
        return self.chance.choice(found) if (found := list(things)) else None

    def model(self) -> str:
        return self.popular if self.chance.random() < 0.5 else self.chance.choice(self.names)

    def arrive(self) -> None:
        patience = self.chance.choice((0.0, 5.0, 300.0, 300.0, 3000.0))
        priority = self._ranks.choice((0, 0, 0, 5, -5))
        self.world.arrive(self.model(), patience, light=self.chance.random() < 0.2, priority=priority)
        if self.chance.random() < 0.02:
            self.world.arrive_for_nothing()

    def leave(self) -> None:
        late = self.chance.random() < 0.1
        if name := self.pick(self.world.leases if late else self.world.waiting):
            self.world.leave(name)

    def release(self) -> None:
        if not (name := self.pick(self.world.leases)):
            return
        # Whoever loses its backend seldom succeeds, and comes back under its name.
        chances = (0, 8, 2) if name in self.world.orphans else (16, 1, 2)
        outcome = self.chance.choices((Outcome.SUCCESS, Outcome.FAILURE, Outcome.NEUTRAL), chances)[0]
        request = self.world.release(name, outcome)
        if outcome is Outcome.FAILURE and self.chance.random() < 0.8:
            suspect = self.chance.random() < 0.3
            self.world.arrive(request.model, 60.0, request.light, name, request.since, suspect)

    def answer(self) -> None:
        if name := self.pick(self.world.leases):
            self.world.answer(name)

    def become_ready(self) -> None:
        if model := self.pick(self.world.in_phase(Phase.STARTING)):
            self.world.become_ready(model)

    def finish_stop(self) -> None:
        if model := self.pick(self.world.in_phase(Phase.STOPPING)):
            self.world.exit(model)

    def die(self) -> None:
        if model := self.pick(self.world.processes):
            self.world.exit(model, retry=self.chance.random() < 0.5, blameless=self.chance.random() < 0.3)

    def weigh(self) -> None:
        """Estimates of any model, and measurements of those that run."""
        if self.chance.random() < 0.5:
            self.world.weigh(self.model(), *any_size(self.chance))
        elif model := self.pick(self.world.processes):
            self.world.weigh(model, *any_size(self.chance), measured=True)

    def starve(self) -> None:
        if model := self.pick(self.world.in_phase(Phase.STARTING) or self.world.processes):
            self.world.starve(model)

    def reconfigure(self) -> None:
        models, name = dict(self.world.models), self.chance.choice(NAMES)
        match self.chance.choice(("remove", "put", "put", "limits", "breaker", "replace", "nothing")):
            case "remove" if len(models) > 1:
                models.pop(name, None)
                self.world.reconfigure(models)
            case "put":
                self.world.reconfigure({**models, name: any_model(self.chance)})
            case "limits":
                self.world.reconfigure(limits=any_limits(self.chance, self.memory))
            case "breaker":
                self.world.reconfigure(breaker=any_breaker(self.chance))
            case "replace":
                self.world.reconfigure(replaced=frozenset((name,)))
            case _:
                self.world.reconfigure()

    def command(self) -> None:
        world = self.world
        commands = (world.request_start, world.request_stop, world.request_restart, world.reset_breaker)
        self.chance.choice(commands)(self.model())

    def hear_old_news(self) -> None:
        self.world.hear_old_news(self.model(), ready=self.chance.random() < 0.5)

    def wait(self) -> None:
        seconds = self.chance.choice((0.0, 0.05, 0.1, 1.0, 1.0, 5.0, 20.0))
        if self.chance.random() < 0.2:
            self.world.now += seconds  # the alarm is late
        else:
            self.world.wait_alert(seconds)
