"""The laws of the scheduler on any walk: a seeded one, and a state machine that shrinks what it finds.

The laws themselves stand in `world`, which checks them after every step.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from llamaproxy.config import BreakerConfig, LimitsConfig, ModelConfig
from llamaproxy.core.events import Grant, Outcome, Start, Stop
from tests.core.world import Phase, World, limits, models, remote

WALKS = 40
STEPS = 1500
SOAK_STEPS = 100_000


def any_world(chance: random.Random) -> World:
    """Small and cramped, so that everything is in everybody's way."""
    places = chance.randint(1, 3)
    catalogue = {name: any_model(chance) for name in "abcdef"[: places + chance.randint(0, 3)]}
    if chance.random() < 0.5:
        catalogue |= remote("r", concurrency=chance.choice((1, 3, None)), queue_size=chance.choice((None, 2)))
    bounds = LimitsConfig(
        models_max=places,
        linger=chance.choice((None, 0.0, 0.1, 1.0)),
        max_wait=chance.choice((0.0, 2.0, 15.0)),
        min_residency=chance.choice((0.0, 1.0, 5.0)),
        queue_size=chance.choice((3, 20, 512)),
    )
    breaker = BreakerConfig(
        start_failures=chance.randint(1, 3),
        request_failures=chance.randint(1, 5),
        open=chance.choice((1.0, 10.0)),
        open_max=chance.choice((2.0, 20.0, 300.0)),
    )
    return World(catalogue, bounds, breaker)


def any_model(chance: random.Random) -> ModelConfig:
    return ModelConfig(
        path="/x",
        pinned=chance.random() < 0.1,
        priority=chance.choice((0, 0, 0, 1)),
        concurrency=chance.choice((1, 2, 3, None)),
        parallel=chance.choice((1, None)),
        queue_size=chance.choice((None, None, 2)),
        ttl=chance.choice((None, None, 3.0)),
    )


class Walk:
    """Steps at random; what cannot happen now is passed over."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = any_world(self.chance)
        # Half of the traffic goes to one model, or nothing would ever be busy.
        self.popular, *_ = self.names = list(self.world.models)
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
        self.world.arrive(self.model(), patience, light=self.chance.random() < 0.2)
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
            self.world.exit(model, retry=self.chance.random() < 0.5)

    def command(self) -> None:
        self.chance.choice((self.world.request_start, self.world.request_stop))(self.model())

    def hear_old_news(self) -> None:
        self.world.hear_old_news(self.model(), ready=self.chance.random() < 0.5)

    def wait(self) -> None:
        seconds = self.chance.choice((0.0, 0.05, 0.1, 1.0, 1.0, 5.0, 20.0))
        if self.chance.random() < 0.2:
            self.world.now += seconds  # the alarm is late
        else:
            self.world.wait_alert(seconds)


@pytest.mark.parametrize("seed", range(WALKS))
def test_random_walk_keeps_the_laws(seed: int) -> None:
    Walk(seed).run(STEPS)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(1000, 1000 + WALKS))
def test_long_walk_keeps_the_laws(seed: int) -> None:
    Walk(seed).run(SOAK_STEPS)


def test_walks_come_everywhere() -> None:
    """A law that nothing comes near proves nothing."""
    seen = {kind for seed in range(WALKS) for kind in Walk(seed).run(STEPS).seen}
    assert seen >= {"evicted", "fairness", "resume", "ttl", "requested", "unhealthy", "shutdown"}
    assert seen >= {"queue_full", "queue_timeout", "model_unavailable", "model_start_failed", "shutting_down"}


class Clockwork:
    """Clients that ask again as soon as they are served, and processes that take their time. All durations in seconds.

    `waits` are how long each model was wanted without a process until it was ready.
    """

    START, STOP, LONGEST = 2.0, 1.0, 6.0

    def __init__(self, seed: int, world: World, clients: dict[str, int]) -> None:
        self.chance = random.Random(seed)
        self.world = world
        self.agenda: list[tuple[float, int, Callable[[], object]]] = []
        self.order = itertools.count()
        self.cold_since: dict[str, float] = {}
        self.waits: list[float] = []
        for model, count in clients.items():
            for _ in range(count):
                self.later(self.chance.random(), partial(self.world.arrive, model))

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        heapq.heappush(self.agenda, (self.world.now + seconds, next(self.order), action))

    def run(self, steps: int) -> None:
        for _ in range(steps):
            due, _, action = self.agenda[0]
            if (alarm := self.world.scheduler.wake_at) is not None and alarm < due:
                self.world.sleep_until_woken()
            else:
                heapq.heappop(self.agenda)
                self.world.now = due
                action()
            self.follow()

    def follow(self) -> None:
        for effect in self.world.effects:
            match effect:
                case Start(model, _):
                    self.later(self.START, partial(self.become_ready, model))
                case Stop(model, _, _, _):
                    self.later(self.STOP, partial(self.world.exit, model))
                case Grant(name, model, _):
                    self.later(self.chance.uniform(0, self.LONGEST), partial(self.serve, name, model))
        self.look_who_is_cold()

    def serve(self, name: str, model: str) -> None:
        self.world.release(name)
        self.follow()
        self.world.arrive(model)

    def become_ready(self, model: str) -> None:
        self.waits.append(self.world.now - self.cold_since.pop(model))
        self.world.become_ready(model)

    def look_who_is_cold(self) -> None:
        for request in self.world.waiting.values():
            if self.world.phase.get(request.model) not in ("ready", "draining"):
                gone = self.world.scheduler.backends[request.model].idle_since
                self.cold_since.setdefault(request.model, max(request.since, gone))


@pytest.mark.parametrize("concurrency", [1, 2, 8])
@pytest.mark.parametrize("busy", [1, 5, 20])
def test_no_model_waits_longer_than_the_contract_says(busy: int, concurrency: int) -> None:
    """max_wait, the victim's longest running request, and the swap."""
    max_wait = 15.0
    world = World(models("a", "b", concurrency=concurrency), limits(max_wait=max_wait, linger=0.1), BreakerConfig())
    clockwork = Clockwork(busy, world, {"a": busy, "b": 3})
    clockwork.run(3000)
    assert len(clockwork.waits) > 20
    assert max(clockwork.waits) <= max_wait + Clockwork.LONGEST + Clockwork.STOP + Clockwork.START


SECONDS = st.sampled_from([0.0, 0.1, 1.0, 5.0, 15.0])
NAMES = st.sampled_from("abcr")
NUMBERS = st.integers(0, 20)


def pick(things: Iterable[str], number: int) -> str:
    found = list(things)
    return found[number % len(found)]


class SchedulerMachine(RuleBasedStateMachine):
    """The same world, driven by hypothesis: what breaks a law is shrunk to its shortest script."""

    world: World

    @initialize(
        places=st.integers(1, 2),
        linger=st.sampled_from([0.0, 0.1]),
        max_wait=SECONDS,
        min_residency=SECONDS,
        queue_size=st.sampled_from([2, 512]),
        concurrency=st.integers(1, 2),
        pinned=st.booleans(),
        failures=st.integers(1, 3),
    )
    def begin(
        self,
        places: int,
        linger: float,
        max_wait: float,
        min_residency: float,
        queue_size: int,
        concurrency: int,
        pinned: bool,
        failures: int,
    ) -> None:
        catalogue = {
            **models("a", concurrency=concurrency, pinned=pinned),
            **models("b", concurrency=concurrency),
            **models("c", concurrency=concurrency, ttl=2.0),
            **remote("r", concurrency=concurrency),
        }
        bounds = limits(
            models_max=places, linger=linger, max_wait=max_wait, min_residency=min_residency, queue_size=queue_size
        )
        breaker = BreakerConfig(start_failures=failures, request_failures=failures, open=3, open_max=10)
        self.world = World(catalogue, bounds, breaker)

    @rule(model=NAMES, patience=st.sampled_from([0.0, 5.0, 300.0]), light=st.booleans())
    def arrive(self, model: str, patience: float, light: bool) -> None:
        self.world.arrive(model, patience, light)

    @precondition(lambda self: self.world.waiting)
    @rule(number=NUMBERS)
    def leave(self, number: int) -> None:
        self.world.leave(pick(self.world.waiting, number))

    @precondition(lambda self: self.world.leases)
    @rule(number=NUMBERS, outcome=st.sampled_from(Outcome), again=st.booleans(), suspect=st.booleans())
    def release(self, number: int, outcome: Outcome, again: bool, suspect: bool) -> None:
        name = pick(self.world.leases, number)
        request = self.world.release(name, outcome)
        if again:
            self.world.arrive(request.model, 60.0, request.light, name, request.since, suspect)

    @precondition(lambda self: self.world.leases)
    @rule(number=NUMBERS)
    def answer(self, number: int) -> None:
        self.world.answer(pick(self.world.leases, number))

    @precondition(lambda self: self.world.in_phase(Phase.STARTING))
    @rule(number=NUMBERS)
    def become_ready(self, number: int) -> None:
        self.world.become_ready(pick(self.world.in_phase(Phase.STARTING), number))

    @precondition(lambda self: self.world.in_phase(Phase.STOPPING))
    @rule(number=NUMBERS)
    def finish_stop(self, number: int) -> None:
        self.world.exit(pick(self.world.in_phase(Phase.STOPPING), number))

    @precondition(lambda self: self.world.processes)
    @rule(number=NUMBERS, retry=st.booleans())
    def die(self, number: int, retry: bool) -> None:
        self.world.exit(pick(self.world.processes, number), retry)

    @rule(model=NAMES, start=st.booleans())
    def command(self, model: str, start: bool) -> None:
        (self.world.request_start if start else self.world.request_stop)(model)

    @rule(model=NAMES, ready=st.booleans())
    def hear_old_news(self, model: str, ready: bool) -> None:
        self.world.hear_old_news(model, ready)

    @rule(seconds=SECONDS, late=st.booleans())
    def wait(self, seconds: float, late: bool) -> None:
        if late:
            self.world.now += seconds
        else:
            self.world.wait_alert(seconds)

    @rule()
    def quiesce(self) -> None:
        self.world.quiesce()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.quiesce()
            self.world.end()


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, database=None, derandomize=True
)
