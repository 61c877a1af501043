"""llamaproxy.core.scheduler as a whole: its laws hold after every step of any walk.

The laws stand in `world`. One walk is seeded and long, the other is hypothesis's, which finds the short way to a fault.
"""

import random
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, precondition, rule

from llamaproxy.config import BreakerConfig, LimitsConfig, ModelConfig
from llamaproxy.core.events import Outcome
from tests.core.world import Phase, World

WALKS = 16
STEPS = 1200
SOAK_STEPS = 100_000


def any_world(rng: random.Random) -> World:
    """Small and cramped, so that everything is in everybody's way."""
    models_max = rng.randint(1, 3)
    models = {name: any_model(rng, rng.random() < 0.1) for name in "abcdef"[: models_max + rng.randint(0, 3)]}
    limits = LimitsConfig(
        models_max=models_max,
        linger=rng.choice([0.0, 0.1, 1.0]),
        max_wait=rng.choice([0.0, 2.0, 15.0]),
        min_residency=rng.choice([0.0, 1.0, 5.0]),
        queue_size=rng.choice([3, 20, 512]),
    )
    breaker = BreakerConfig(
        start_failures=rng.randint(1, 3),
        request_failures=rng.randint(1, 5),
        open=rng.choice([1.0, 10.0]),
        open_max=rng.choice([2.0, 20.0, 300.0]),
    )
    return World(models, limits, breaker)


def any_model(rng: random.Random, pinned: bool) -> ModelConfig:
    return ModelConfig(
        path="/models/some.gguf",
        pinned=pinned,
        priority=rng.choice([0, 0, 0, 1]),
        concurrency=rng.choice([1, 2, 3, None]),
        parallel=rng.choice([1, None]),
        ttl=rng.choice([None, None, 3.0]),
        queue_size=rng.choice([None, None, 2]),
    )


class Walk:
    """Steps at random. What cannot happen now is passed over."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = any_world(self.rng)
        self.models = sorted(self.world.models)
        # Half of the traffic goes to one model, or nothing would ever be busy.
        self.weights = [len(self.models), *[1] * (len(self.models) - 1)]
        steps: dict[Callable[[], None], int] = {
            self.arrive: 30,
            self.leave: 3,
            self.release: 22,
            self.answer: 3,
            self.finish_start: 12,
            self.finish_stop: 12,
            self.advance: 14,
            self.fail: 2,
            self.wish: 1,
            self.dismiss: 1,
            self.hear_old_news: 1,
        }
        self.steps, self.chances = list(steps), list(steps.values())

    def run(self, steps: int) -> None:
        for step in self.rng.choices(self.steps, self.chances, k=steps):
            step()
        self.world.let_all_come_to_rest()
        if self.rng.random() < 0.5:
            for step in self.rng.choices(self.steps, self.chances, k=50):
                step()
        self.world.end()

    def arrive(self) -> None:
        within = self.rng.choice([0.0, 5.0, 300.0, 300.0, 3000.0])
        self.world.arrive(self.any_model(), within, light=self.rng.random() < 0.2)
        if self.rng.random() < 0.02:
            self.world.arrive_for_nothing()

    def any_model(self) -> str:
        return self.rng.choices(self.models, self.weights)[0]

    def leave(self) -> None:
        if self.world.holding and self.rng.random() < 0.1:
            self.world.leave_late(self.rng.choice(list(self.world.holding)))
        elif self.world.waiting:
            self.world.leave(self.rng.choice(list(self.world.waiting)))

    def release(self) -> None:
        if not self.world.holding:
            return
        name = self.rng.choice(list(self.world.holding))
        lost = name in self.world.lost
        chances = [0, 8, 2] if lost else [16, 1, 2]
        outcome = self.rng.choices([Outcome.SUCCESS, Outcome.FAILURE, Outcome.NEUTRAL], chances)[0]
        self.world.release(name, outcome, replay=outcome is Outcome.FAILURE and self.rng.random() < 0.8)

    def answer(self) -> None:
        if self.world.holding:
            self.world.answer(self.rng.choice(list(self.world.holding)))

    def finish_start(self) -> None:
        if starting := self.world.in_phase(Phase.STARTING):
            self.world.finish_start(self.rng.choice(starting))

    def finish_stop(self) -> None:
        if stopping := self.world.in_phase(Phase.STOPPING):
            self.world.exit(self.rng.choice(stopping))

    def fail(self) -> None:
        if self.world.processes:
            self.world.exit(self.rng.choice(list(self.world.processes)), retry=self.rng.random() < 0.5)

    def wish(self) -> None:
        self.world.wish(self.any_model())

    def dismiss(self) -> None:
        self.world.dismiss(self.any_model())

    def hear_old_news(self) -> None:
        model = self.any_model()
        old = self.world.spawns[model] - (model in self.world.processes)
        self.world.hear_old_news(model, old, ready=self.rng.random() < 0.5)

    def advance(self) -> None:
        seconds = self.rng.choice([0.0, 0.05, 0.1, 1.0, 1.0, 5.0, 20.0])
        self.world.advance(seconds, punctual=self.rng.random() < 0.8)


@pytest.mark.parametrize("seed", range(WALKS))
def test_a_walk(seed: int) -> None:
    Walk(seed).run(STEPS)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 1000 + WALKS))
def test_a_long_walk(seed: int) -> None:
    Walk(seed).run(SOAK_STEPS)


def test_walks_go_everywhere() -> None:
    """A law that nothing comes near proves nothing."""
    seen = {key for seed in range(WALKS) for key in seen_on_a_walk(seed)}
    assert seen >= {"evicted", "fairness", "ttl", "requested", "unhealthy", "shutdown"}
    assert seen >= {"queue_full", "queue_timeout", "model_unavailable", "model_start_failed", "shutting_down"}


def seen_on_a_walk(seed: int) -> set[str]:
    walk = Walk(seed)
    walk.run(STEPS // 2)
    return set(walk.world.seen)


durations = st.sampled_from([0.0, 0.1, 1.0, 5.0, 15.0])
names = st.sampled_from("abc")
pieces = st.integers(min_value=0, max_value=99)


class Laws(RuleBasedStateMachine):
    """Three models at most; a rule that needs something of a kind takes the piece with a number."""

    world: World

    @initialize(
        models_max=st.integers(1, 2),
        linger=st.sampled_from([0.0, 0.1]),
        max_wait=durations,
        min_residency=durations,
        queue_size=st.sampled_from([2, 512]),
        pinned=st.sampled_from(["", "a"]),
        concurrency=st.sampled_from([1, 2]),
        ttl=st.sampled_from([None, 2.0]),
        failures=st.integers(1, 3),
        open_for=st.sampled_from([1.0, 10.0]),
    )
    def begin(
        self,
        models_max: int,
        linger: float,
        max_wait: float,
        min_residency: float,
        queue_size: int,
        pinned: str,
        concurrency: int,
        ttl: float | None,
        failures: int,
        open_for: float,
    ) -> None:
        models = {
            name: ModelConfig(path="/m.gguf", concurrency=concurrency, pinned=name == pinned, ttl=ttl) for name in "abc"
        }
        limits = LimitsConfig(
            models_max=models_max,
            linger=linger,
            max_wait=max_wait,
            min_residency=min_residency,
            queue_size=queue_size,
        )
        breaker = BreakerConfig(start_failures=failures, request_failures=failures, open=open_for, open_max=20.0)
        self.world = World(models, limits, breaker)

    @rule(model=names, within=st.sampled_from([0.0, 5.0, 300.0, 3000.0]), light=st.booleans())
    def arrives(self, model: str, within: float, light: bool) -> None:
        self.world.arrive(model, within, light)

    @precondition(lambda self: self.world.waiting)
    @rule(piece=pieces)
    def leaves(self, piece: int) -> None:
        self.world.leave(pick(self.world.waiting, piece))

    @precondition(lambda self: self.world.holding)
    @rule(piece=pieces, outcome=st.sampled_from(Outcome), replay=st.booleans())
    def is_released(self, piece: int, outcome: Outcome, replay: bool) -> None:
        self.world.release(pick(self.world.holding, piece), outcome, replay)

    @precondition(lambda self: self.world.holding)
    @rule(piece=pieces)
    def is_answered(self, piece: int) -> None:
        self.world.answer(pick(self.world.holding, piece))

    @precondition(lambda self: self.world.in_phase(Phase.STARTING))
    @rule(piece=pieces)
    def is_ready(self, piece: int) -> None:
        self.world.finish_start(pick(self.world.in_phase(Phase.STARTING), piece))

    @precondition(lambda self: self.world.in_phase(Phase.STOPPING))
    @rule(piece=pieces)
    def has_stopped(self, piece: int) -> None:
        self.world.exit(pick(self.world.in_phase(Phase.STOPPING), piece))

    @precondition(lambda self: self.world.processes)
    @rule(piece=pieces, retry=st.booleans())
    def dies(self, piece: int, retry: bool) -> None:
        self.world.exit(pick(self.world.processes, piece), retry)

    @rule(model=names)
    def start_is_requested(self, model: str) -> None:
        self.world.wish(model)

    @rule(model=names)
    def stop_is_requested(self, model: str) -> None:
        self.world.dismiss(model)

    @rule(model=names, ready=st.booleans())
    def old_news_arrives(self, model: str, ready: bool) -> None:
        old = self.world.spawns[model] - (model in self.world.processes)
        self.world.hear_old_news(model, old, ready)

    @rule(seconds=durations, punctual=st.booleans())
    def time_passes(self, seconds: float, punctual: bool) -> None:
        self.world.advance(seconds, punctual)

    @rule()
    def the_gateway_begins_to_close(self) -> None:
        self.world.begin_to_close()

    @rule()
    def all_comes_to_rest(self) -> None:
        self.world.let_all_come_to_rest()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.let_all_come_to_rest()
            self.world.end()


def pick(things: list[str] | dict[str, object], piece: int) -> str:
    names = list(things)
    return names[piece % len(names)]


TestLaws = Laws.TestCase
TestLaws.settings = settings(max_examples=100, stateful_step_count=40, deadline=None, database=None, derandomize=True)
