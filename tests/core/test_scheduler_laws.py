"""The laws of the scheduler under random events: a seeded walk, and a state machine that shrinks what it finds."""

import os
import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from llamaproxy.config import BreakerConfig, LimitsConfig, ModelConfig
from llamaproxy.core.events import DrainBegun, Outcome, ShutdownDue, StartRequested, StopRequested
from tests.core.world import World

STEPS = int(os.environ.get("LLAMAPROXY_SOAK_STEPS", "100000"))


def random_world(random: random.Random) -> World:
    models = {
        name: ModelConfig(
            path="/x",
            pinned=random.random() < 0.15,
            priority=random.choice((0, 0, 1)),
            concurrency=random.choice((None, 1, 2)),
            queue_size=random.choice((None, None, 3)),
            ttl=random.choice((None, None, 5.0)),
        )
        for name in "abcd"
    }
    limits = LimitsConfig(
        models_max=random.randint(1, 3),
        linger=random.choice((None, 0.0)),
        max_wait=random.choice((0.0, 2.0)),
        min_residency=random.choice((0.0, 1.0)),
        queue_size=random.choice((5, 100)),
    )
    return World(models, limits, BreakerConfig(start_failures=2, request_failures=3, open=3, open_max=10))


def step(world: World, random: random.Random) -> None:
    """One thing that may happen now."""
    model = random.choice("abcd")
    starting = [name for name, phase in world.phase.items() if phase == "starting"]
    choices = [
        (5, lambda: world.arrive(model, random.choice((1.0, 30.0)), random.random() < 0.1)),
        (3, lambda: world.wait(random.choice((0.01, 0.1, 1.0, 5.0)))),
        (0.2, lambda: world.tell(StartRequested(model))),
        (0.2, lambda: world.tell(StopRequested(model))),
        (3 * bool(starting), lambda: world.become_ready(random.choice(starting))),
        (0.6 * bool(world.phase), lambda: world.exit(random.choice(list(world.phase)), random.random() < 0.5)),
        (1 * bool(world.waiting), lambda: world.leave(random.choice(list(world.waiting)))),
        (
            5 * bool(world.leases),
            lambda: world.release(random.choice(list(world.leases)), random.choice(list(Outcome))),
        ),
    ]
    weights, actions = zip(*choices, strict=True)
    random.choices(actions, weights)[0]()


def walk(seed: int, steps: int) -> None:
    chance = random.Random(seed)
    world = random_world(chance)
    for _ in range(steps):
        step(world, chance)
    pinned_places = sum(config.pinned for config in world.models.values())
    if pinned_places == 0:
        world.quiesce()
    world.closing = True
    world.tell(DrainBegun())
    world.tell(ShutdownDue())
    assert not world.waiting
    assert set(world.phase.values()) <= {"stopping"}
    for model in list(world.phase):
        world.exit(model)
    for request in list(world.leases):
        world.release(request)
    assert world.scheduler.live == world.scheduler.in_flight == world.scheduler.queued == 0


@pytest.mark.parametrize("seed", range(40))
def test_random_walk_keeps_the_laws(seed: int) -> None:
    walk(seed, 250)


@pytest.mark.soak
def test_long_walk_keeps_the_laws() -> None:
    for seed in range(STEPS // 1000):
        walk(1000 + seed, 1000)


class SchedulerMachine(RuleBasedStateMachine):
    """The same world, driven by hypothesis: what breaks a law is shrunk to its shortest script."""

    @initialize(places=st.integers(1, 2), wait=st.sampled_from([0.0, 2.0]), pinned=st.booleans())
    def begin(self, places: int, wait: float, pinned: bool) -> None:
        models = {
            name: ModelConfig(
                path="/x", concurrency=2, pinned=pinned and name == "a", ttl=20.0 if name == "c" else None
            )
            for name in "abc"
        }
        limits = LimitsConfig(models_max=places, max_wait=wait, min_residency=0.5, queue_size=6)
        self.world = World(models, limits, BreakerConfig(start_failures=2, request_failures=2, open=3, open_max=10))

    @rule(model=st.sampled_from("abc"), light=st.booleans())
    def arrive(self, model: str, light: bool) -> None:
        self.world.arrive(model, 30.0, light)

    @rule(seconds=st.sampled_from([0.01, 0.2, 3.0]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule()
    def alarm(self) -> None:
        self.world.sleep_until_woken()

    @precondition(lambda self: self.world.leases)
    @rule(data=st.data(), outcome=st.sampled_from(list(Outcome)))
    def release(self, data: st.DataObject, outcome: Outcome) -> None:
        self.world.release(data.draw(st.sampled_from(sorted(self.world.leases))), outcome)

    @precondition(lambda self: self.world.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.world.leave(data.draw(st.sampled_from(sorted(self.world.waiting))))

    @precondition(lambda self: "starting" in self.world.phase.values())
    @rule()
    def ready(self) -> None:
        self.world.become_ready(next(name for name, phase in self.world.phase.items() if phase == "starting"))

    @precondition(lambda self: self.world.phase)
    @rule(data=st.data(), retry=st.booleans())
    def exit(self, data: st.DataObject, retry: bool) -> None:
        self.world.exit(data.draw(st.sampled_from(sorted(self.world.phase))), retry)

    @rule(model=st.sampled_from("abc"), start=st.booleans())
    def command(self, model: str, start: bool) -> None:
        self.world.tell(StartRequested(model) if start else StopRequested(model))


SchedulerMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSchedulerMachine = SchedulerMachine.TestCase
