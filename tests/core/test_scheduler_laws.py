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

from llamaproxy.config import BreakerConfig
from llamaproxy.core.events import Grant, Outcome, Start, Stop
from tests.core.books import Phase
from tests.core.script import put, remove
from tests.core.walk import Walk
from tests.core.world import World, limits, models, remote

WALKS = 40
STEPS = 1500
SOAK_STEPS = 100_000


@pytest.mark.parametrize("seed", range(WALKS))
def test_random_walk_keeps_the_laws(seed: int) -> None:
    Walk(seed).run(STEPS)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(1000, 1000 + WALKS))
def test_long_walk_keeps_the_laws(seed: int) -> None:
    Walk(seed).run(SOAK_STEPS)


PLACES = {
    *("evicted", "fairness", "resume", "ttl", "requested", "unhealthy", "shutdown"),
    *("queue_full", "queue_timeout", "model_unavailable", "model_start_failed", "shutting_down"),
    *("over_limit", "reloaded", "model_out_of_memory", "model_not_found"),
}


def test_walks_come_everywhere() -> None:
    """A law that nothing comes near proves nothing."""
    seen: set[str] = set()
    for seed in range(WALKS):
        seen.update(Walk(seed).run(STEPS).seen)
        if seen >= PLACES:
            break
    assert seen >= PLACES


class Clockwork:
    """Clients that ask again as soon as they are served, and processes that take their time. All durations in seconds.

    `waits` are how long each model was wanted without a process until it was ready, by model.
    """

    START, STOP, LONGEST = 2.0, 1.0, 6.0

    def __init__(self, seed: int, world: World, clients: dict[str, int]) -> None:
        self.chance = random.Random(seed)
        self.world = world
        self.agenda: list[tuple[float, int, Callable[[], object]]] = []
        self.order = itertools.count()
        self.cold_since: dict[str, float] = {}
        self.waits: dict[str, list[float]] = {model: [] for model in clients}
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
        self.waits[model].append(self.world.now - self.cold_since.pop(model))
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
    waits = [wait for model in "ab" for wait in clockwork.waits[model]]
    assert len(waits) > 20
    assert max(waits) <= max_wait + Clockwork.LONGEST + Clockwork.STOP + Clockwork.START


@pytest.mark.parametrize("seed", range(3))
def test_small_models_do_not_starve_a_large_one(seed: int) -> None:
    """They use what it leaves over until it is overdue.

    Then those who came before it have their turn, whoever is new has one too, and nobody newer comes.
    """
    bounds = limits(models_max=10, memory_budget=10, max_wait=15, min_residency=5, linger=0)
    world = World(models(*"abcdef", "large", concurrency=1), bounds, BreakerConfig())
    for name in "abcdef":
        world.weigh(name, 3)
    world.weigh("large", 9)
    clockwork = Clockwork(seed, world, {**dict.fromkeys("abcdef", 2), "large": 1})
    clockwork.run(1000)
    turn = Clockwork.START + 5 + Clockwork.LONGEST + Clockwork.STOP
    assert max(clockwork.waits["large"]) <= 15 + 2 * turn + Clockwork.START
    assert min(map(len, clockwork.waits.values())) > 4, "nor it them"


SECONDS = st.sampled_from([0.0, 0.1, 1.0, 5.0, 15.0])
NAMES = st.sampled_from("abcr")
NUMBERS = st.integers(0, 20)
BYTES = st.integers(0, 9)
SIZES = st.sampled_from([None, 512])
TTLS = st.sampled_from([None, 2.0])


def pick(things: Iterable[str], number: int) -> str:
    found = list(things)
    return found[number % len(found)]


class SchedulerMachine(RuleBasedStateMachine):
    """The same world, driven by hypothesis: what breaks a law is shrunk to its shortest script."""

    world: World
    memory: bool
    reload: bool

    @initialize(
        places=st.integers(1, 2),
        linger=st.sampled_from([0.0, 0.1]),
        max_wait=SECONDS,
        min_residency=SECONDS,
        queue_size=st.sampled_from([2, 512]),
        concurrency=st.integers(1, 2),
        pinned=st.booleans(),
        failures=st.integers(1, 3),
        memory=st.booleans(),
        reload=st.booleans(),
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
        memory: bool,
        reload: bool,
    ) -> None:
        catalogue = {
            **models("a", concurrency=concurrency, pinned=pinned),
            **models("b", concurrency=concurrency),
            **models("c", concurrency=concurrency, ttl=2.0),
            **remote("r", concurrency=concurrency),
        }
        self.memory, self.reload = memory, reload
        bounds = limits(
            models_max=places + memory,
            memory_budget=8 if memory else None,
            vram_budgets=(4,) if memory else (),
            linger=linger,
            max_wait=max_wait,
            min_residency=min_residency,
            queue_size=queue_size,
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

    @precondition(lambda self: self.memory)
    @rule(model=NAMES, ram=BYTES, device=BYTES)
    def estimate(self, model: str, ram: int, device: int) -> None:
        self.world.weigh(model, ram, device)

    @precondition(lambda self: self.memory and self.world.processes)
    @rule(number=NUMBERS, ram=BYTES, device=BYTES)
    def measure(self, number: int, ram: int, device: int) -> None:
        self.world.weigh(pick(self.world.processes, number), ram, device, measured=True)

    @precondition(lambda self: self.memory and self.world.processes)
    @rule(number=NUMBERS)
    def starve(self, number: int) -> None:
        self.world.starve(pick(self.world.processes, number))

    @precondition(lambda self: self.reload)
    @rule(model=NAMES)
    def remove(self, model: str) -> None:
        remove(self.world, model)

    @precondition(lambda self: self.reload)
    @rule(model=NAMES, size=SIZES, pinned=st.booleans(), ttl=TTLS, again=st.booleans())
    def put(self, model: str, size: int | None, pinned: bool, ttl: float | None, again: bool) -> None:
        put(self.world, model, ctx_size=size, pinned=pinned, ttl=ttl, preload=again)

    @precondition(lambda self: self.reload)
    @rule(model=NAMES)
    def replace(self, model: str) -> None:
        self.world.reconfigure(replaced=frozenset((model,)))

    @precondition(lambda self: self.reload)
    @rule(places=st.integers(1, 3), budget=st.sampled_from((None, 4, 8)), max_wait=SECONDS)
    def limit(self, places: int, budget: int | None, max_wait: float) -> None:
        values = {"models_max": places, "memory_budget": budget, "max_wait": max_wait}
        self.world.reconfigure(limits=self.world.limits.model_copy(update=values))

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
