"""llamaproxy.backends.pool: leases, and the ends of everything that was begun.

Most of it needs no process: a puppet is a spawn that becomes ready, and ends, when the test says so. Whatever a test
does, it ends with the law of the house: every grant was released exactly once, and nobody waits any more.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from llamaproxy.backends.command import Address
from llamaproxy.backends.fleet import Launch
from llamaproxy.backends.lease import Lease
from llamaproxy.backends.orphans import RunDirectory
from llamaproxy.backends.pool import Pool
from llamaproxy.backends.spawn import Spawn
from llamaproxy.backends.vram import Devices
from llamaproxy.config import BreakerConfig, Config, EngineConfig, LimitsConfig
from llamaproxy.core.events import (
    BackendAnswered,
    Effect,
    Event,
    Grant,
    LeaseReleased,
    Outcome,
    Reject,
    RequestArrived,
    RequestLeft,
    Start,
)
from llamaproxy.core.footprint import Footprint
from llamaproxy.errors import (
    EngineMissing,
    GatewayError,
    ModelNotFound,
    ModelStartFailed,
    QueueTimeout,
    ShuttingDown,
    Unavailable,
)
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.tasks import spawn
from tests.backends.engines import fake_command
from tests.backends.processes import PATIENCE, alive, known, until, within
from tests.backends.puppets import Puppet, turn

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(60)]


class Journal:
    """What the scheduler was told, and what it answered."""

    def __init__(self, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[Event] = []
        self.effects: list[Effect] = []
        handle, grants = pool.scheduler.handle, pool.scheduler.grants

        def write_down(event: Event, now: float) -> list[Effect]:
            effects = handle(event, now)
            self.events.append(event)
            self.effects += effects
            return effects

        def write_down_at_once(event: RequestArrived, now: float) -> bool:
            if granted := grants(event, now):
                self.events.append(event)
                self.effects.append(Grant(event.request, event.model, pool.backends[event.model].spawn))
            return granted

        monkeypatch.setattr(pool.scheduler, "handle", write_down)
        monkeypatch.setattr(pool.scheduler, "grants", write_down_at_once)

    def check(self) -> None:
        """Every request is granted, rejected or gone; every grant is released, and only once."""
        grants = Counter(effect.request for effect in self.effects if isinstance(effect, Grant))
        rejects = Counter(effect.request for effect in self.effects if isinstance(effect, Reject))
        released = Counter(event.request for event in self.events if isinstance(event, LeaseReleased))
        arrived = Counter(event.request for event in self.events if isinstance(event, RequestArrived))
        left = {event.request for event in self.events if isinstance(event, RequestLeft)}
        assert grants == released
        assert set((grants + rejects).values()) | set(arrived.values()) <= {1}
        assert set(arrived) == set(grants) | set(rejects) | left

    def outcomes(self) -> list[tuple[Outcome, str]]:
        return [(event.outcome, event.reason) for event in self.events if isinstance(event, LeaseReleased)]

    def starts(self) -> int:
        return sum(isinstance(effect, Start) for effect in self.effects)


class House:
    """A pool of puppets, and what happened to it."""

    def __init__(self, config: Config, run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
        self.puppets: list[Puppet] = []
        self.launch: Launch = self._launch
        self._run = run
        self.check: Callable[[str], Footprint | None] = lambda model: None
        self.pool = Pool(
            config.models, config, lambda model, number: self.launch(model, number), lambda model: self.check(model)
        )
        self.journal = Journal(self.pool, monkeypatch)
        self.tasks: list[asyncio.Task[Any]] = []

    def _launch(self, model: str, number: int) -> Puppet:
        self.puppets.append(Puppet(model, number, self._run))
        return self.puppets[-1]

    async def puppet(self, count: int = 1) -> Puppet:
        """The puppet that was launched as number `count` of all."""
        await until(lambda: len(self.puppets) >= count)
        await within(PATIENCE, self.puppets[count - 1].begun.wait())
        return self.puppets[count - 1]

    def client(self, model: str = "a", **options: Any) -> "Client":
        client = Client(self.pool, model, options)
        self.tasks.append(client.task)
        return client

    async def ready(self, model: str = "a") -> Puppet:
        """A model that is resident and idle."""
        count = len(self.puppets)
        self.pool.start(model)
        puppet = await self.puppet(count + 1)
        puppet.ready()
        return puppet

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.pool.hurry()
        await within(PATIENCE, self.pool.stop_all())
        await asyncio.sleep(0)
        self.journal.check()
        assert (self.pool.scheduler.in_flight, self.pool.scheduler.queued, self.pool.scheduler.live) == (0, 0, 0)
        assert not any(map(self.pool.running, self.pool.backends))


class Client:
    """Asks for a lease and keeps it until it is told to let go."""

    def __init__(self, pool: Pool, model: str, options: dict[str, Any]) -> None:
        self.lease: Lease | None = None
        self._granted = asyncio.Event()
        self._let_go = asyncio.Event()
        self.task = spawn(self._run(pool, model, options), name="client")

    async def _run(self, pool: Pool, model: str, options: dict[str, Any]) -> None:
        async with pool.lease(model, **options) as lease:
            self.lease = lease
            self._granted.set()
            await self._let_go.wait()

    async def granted(self) -> Lease:
        await within(PATIENCE, self._granted.wait())
        assert self.lease
        return self.lease

    async def let_go(self) -> None:
        self._let_go.set()
        await within(PATIENCE, self.task)

    async def refused(self) -> BaseException | None:
        await asyncio.wait({self.task}, timeout=PATIENCE)
        return self.task.exception()


Houses = Callable[..., House]


@pytest.fixture
async def houses(run_directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Houses]:
    built: list[House] = []

    def build(
        models: Mapping[str, ModelConfig] | None = None, breaker: BreakerConfig | None = None, **limits: Any
    ) -> House:
        named = models or {name: ModelConfig(path=name) for name in "abc"}
        config = Config(
            models=dict(named),
            limits=LimitsConfig(**{"linger": 0.0, **limits}),
            breaker=breaker or BreakerConfig(),
        )
        built.append(House(config, run_directory, monkeypatch))
        return built[-1]

    yield build
    for house in built:
        await house.close()


def one_at_a_time() -> dict[str, ModelConfig]:
    return {name: ModelConfig(path=name, concurrency=1) for name in "abc"}


class TestLease:
    async def test_the_first_one_starts_the_model_and_waits_for_it(self, houses: Houses) -> None:
        house = houses()
        client = house.client()
        puppet = await house.puppet()
        await turn()
        assert not client.lease
        puppet.ready()
        lease = await client.granted()
        assert lease.backend is puppet is house.pool.running("a")
        assert lease.upstream is puppet.upstream

    async def test_further_ones_are_granted_at_once(self, houses: Houses) -> None:
        house = houses()
        puppet = await house.ready()
        async with house.pool.lease("a") as one, house.pool.lease("a") as two:
            assert one.backend is two.backend is puppet
        assert len(house.puppets) == 1

    async def test_any_number_of_them_start_one_process(self, houses: Houses) -> None:
        house = houses({"a": ModelConfig(path="a", concurrency=1000)})
        clients = [house.client() for _ in range(200)]
        puppet = await house.puppet()
        await turn()
        puppet.ready()
        for client in clients:
            assert (await client.granted()).backend is puppet
        assert (len(house.puppets), house.journal.starts()) == (1, 1)

    async def test_there_are_no_more_than_the_model_takes_and_the_first_come_are_first_served(
        self, houses: Houses
    ) -> None:
        house = houses(one_at_a_time())
        await house.ready()
        clients = []
        for _ in range(4):
            clients.append(house.client())
            await turn()
        for number, client in enumerate(clients):
            await client.granted()
            assert not any(later.lease for later in clients[number + 1 :])
            await client.let_go()

    async def test_a_replayed_request_comes_before_those_who_came_after_it(self, houses: Houses) -> None:
        house = houses(one_at_a_time())
        await house.ready()
        began = asyncio.get_running_loop().time()
        holder, later = house.client(), house.client()
        await turn()
        replayed = house.client(since=began - 10)
        await turn()
        await holder.let_go()
        await replayed.granted()
        assert not later.lease

    async def test_light_ones_do_not_count(self, houses: Houses) -> None:
        house = houses(one_at_a_time())
        await house.ready()
        async with house.pool.lease("a"), asyncio.timeout(PATIENCE), house.pool.lease("a", light=True):
            pass

    async def test_it_tells_how_long_was_waited_and_for_what(self, houses: Houses) -> None:
        house = houses(one_at_a_time(), models_max=1, max_wait=0, min_residency=0)
        first = house.client()
        puppet = await house.puppet()
        await asyncio.sleep(0.2)
        puppet.ready()
        lease = await first.granted()
        assert lease.load_seconds > max(0.15, lease.queue_seconds)
        for model in ("a", "b"):
            waiting = house.client(model)
            await asyncio.sleep(0.2)
            await first.let_go()
            if model == "b":
                (await house.puppet(2)).ready()
            lease = await waiting.granted()
            assert lease.queue_seconds > max(0.15, lease.load_seconds)
            first = waiting

    async def test_a_model_that_is_not_there(self, houses: Houses) -> None:
        house = houses()
        assert isinstance(await house.client("nobody").refused(), ModelNotFound)

    async def test_what_it_says_about_its_backend(self, houses: Houses) -> None:
        house = houses()
        await house.ready()
        async with house.pool.lease("a"):
            pass
        async with house.pool.lease("a") as lease:
            lease.answered()
        async with house.pool.lease("a") as lease:
            lease.answered()
            lease.failed("it broke off")
        assert house.journal.outcomes() == [
            (Outcome.NEUTRAL, ""),
            (Outcome.SUCCESS, ""),
            (Outcome.FAILURE, "it broke off"),
        ]

    async def test_it_ends_with_its_block_however_that_ends(self, houses: Houses) -> None:
        house = houses(one_at_a_time())
        await house.ready()
        with pytest.raises(LookupError):
            async with house.pool.lease("a"):
                raise LookupError
        client = house.client()
        await client.granted()
        client.task.cancel()
        async with asyncio.timeout(PATIENCE), house.pool.lease("a"):
            pass

    async def test_a_good_head_is_news_only_to_a_breaker_that_waits_for_its_probe(self, houses: Houses) -> None:
        house = houses()
        await house.ready()
        async with house.pool.lease("a") as lease:
            lease.answered()
        assert not [event for event in house.journal.events if isinstance(event, BackendAnswered)]
        for _ in range(5):
            house.pool.backends["a"].breaker.request_failed(time.monotonic() - 1000, "long ago")
        async with house.pool.lease("a") as lease:
            lease.answered()
        assert len([event for event in house.journal.events if isinstance(event, BackendAnswered)]) == 1


class TestWhyItWaits:
    async def test_for_a_load_whose_length_nobody_knows(self, houses: Houses) -> None:
        house = houses()
        house.client()
        await house.puppet()
        assert house.pool.describe_wait("a", house.pool.ticket("a")) == "loading a"

    @pytest.mark.parametrize(("elapsed", "shown"), [(0.0, 0), (2.51, 25), (9.99, 99), (60.0, 99)])
    async def test_for_a_load_as_long_as_those_before(self, houses: Houses, elapsed: float, shown: int) -> None:
        house = houses()
        house.client()
        await house.puppet()
        backend = house.pool.backends["a"]
        backend.load_seconds, backend.started_at = 10.0, time.monotonic() - elapsed
        assert house.pool.describe_wait("a", "") == f"loading a, {shown} %"

    async def test_in_a_queue_by_its_place_in_it(self, houses: Houses) -> None:
        house = houses(one_at_a_time())
        await house.ready()
        await house.client().granted()
        tickets = [house.pool.ticket("a") for _ in range(3)]
        for ticket in tickets:
            house.client(ticket=ticket)
        await turn()
        places = [house.pool.describe_wait("a", ticket) for ticket in tickets]
        assert places == ["queued, position 1", "queued, position 2", "queued, position 3"]


class TestLeaving:
    """A client that leaves is as if it had never come, at whatever moment it leaves."""

    async def test_while_the_model_loads(self, houses: Houses) -> None:
        house = houses(one_at_a_time())
        gone, stays = house.client(), house.client()
        puppet = await house.puppet()
        gone.task.cancel()
        await turn()
        assert house.pool.scheduler.queued == 1
        puppet.ready()
        await stays.granted()
        assert gone.task.cancelled()

    async def test_while_others_are_served(self, houses: Houses) -> None:
        house = houses(one_at_a_time())
        await house.ready()
        holder, gone, stays = (house.client() for _ in range(3))
        await holder.granted()
        gone.task.cancel()
        await turn()
        await holder.let_go()
        await stays.granted()

    async def test_before_it_was_even_heard(self, houses: Houses) -> None:
        house = houses()
        client = house.client()
        client.task.cancel()
        await turn()
        assert house.puppets == []

    @pytest.mark.parametrize("granted_first", [True, False])
    async def test_in_the_moment_of_the_grant(self, houses: Houses, granted_first: bool) -> None:
        """The place must come back, whichever of the two came first, and to the one who waits for it."""
        house = houses(one_at_a_time())
        gone, stays = house.client(), house.client()
        puppet = await house.puppet()
        await turn()
        if granted_first:
            puppet.ready()
            gone.task.cancel()
        else:
            gone.task.cancel()
            puppet.ready()
        await stays.granted()
        assert gone.task.cancelled()
        assert gone.lease is None
        assert house.journal.outcomes() == [(Outcome.NEUTRAL, "")]

    @pytest.mark.parametrize("rejected_first", [True, False])
    async def test_in_the_moment_of_the_refusal(self, houses: Houses, rejected_first: bool) -> None:
        house = houses()
        client = house.client()
        await house.puppet()
        steps: list[Callable[[], object]] = [lambda: house.pool.stop("a"), client.task.cancel]
        for step in steps if rejected_first else reversed(steps):
            step()
        await turn()
        assert client.task.cancelled()

    async def test_many_at_once_in_the_moment_of_the_grant(self, houses: Houses) -> None:
        house = houses({"a": ModelConfig(path="a", concurrency=10)})
        clients = [house.client() for _ in range(60)]
        puppet = await house.puppet()
        await turn()
        puppet.ready()
        for client in clients[::2]:
            client.task.cancel()
        served = clients[1::2]
        for client in served:
            await client.granted()
            await client.let_go()
        assert len(house.journal.outcomes()) >= len(served)

    async def test_a_patience_of_its_own(self, houses: Houses) -> None:
        house = houses()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02), house.pool.lease("a"):
                raise AssertionError
        (await house.puppet()).ready()
        assert house.pool.scheduler.queued == 0


class TestDeath:
    async def test_it_is_told_to_those_who_hold_a_lease_and_the_next_starts_anew(self, houses: Houses) -> None:
        house = houses()
        puppet = await house.ready()
        client = house.client()
        lease = await client.granted()
        assert not await lease.backend_gone(0.01)
        puppet.die()
        assert await lease.backend_gone(PATIENCE)
        await until(lambda: house.pool.running("a") is None)
        after = house.client()
        successor = await house.puppet(2)
        successor.ready()
        assert (await after.granted()).backend is successor
        assert (puppet.number, successor.number) == (1, 2)
        await client.let_go()

    async def test_those_who_wait_for_a_start_that_may_be_tried_again_wait_on(self, houses: Houses) -> None:
        house = houses()
        client = house.client()
        (await house.puppet()).die()
        (await house.puppet(2)).ready()
        await client.granted()

    async def test_each_of_those_who_wait_for_one_that_may_not_gets_an_error_of_its_own(self, houses: Houses) -> None:
        house = houses()
        clients = [house.client() for _ in range(3)]
        (await house.puppet()).die("no such model", retry=False)
        errors = [await client.refused() for client in clients]
        assert [str(error) for error in errors] == ["no such model"] * 3
        assert len({id(error) for error in errors}) == 3


class TestLaunchThatFails:
    async def test_its_reason_is_what_the_waiting_are_told(self, houses: Houses) -> None:
        house = houses()

        def launch(model: str, number: int) -> Spawn:
            raise EngineMissing("install it")

        house.launch = launch
        for _ in range(2):
            error = await house.client().refused()
            assert isinstance(error, EngineMissing)
            assert str(error) == "install it"

    async def test_the_next_one_is_tried(self, houses: Houses) -> None:
        house = houses()
        launch = house.launch

        def fail_once(model: str, number: int) -> Spawn:
            house.launch = launch
            raise EngineMissing("install it")

        house.launch = fail_once
        await house.client().refused()
        client = house.client()
        (await house.puppet()).ready()
        await client.granted()

    async def test_the_breaker_counts_it(self, houses: Houses) -> None:
        house = houses(breaker=BreakerConfig(start_failures=2))
        tries = []

        def launch(model: str, number: int) -> Spawn:
            tries.append(number)
            raise EngineMissing("install it")

        house.launch = launch
        for _ in range(4):
            await house.client().refused()
        assert tries == [1, 2]

    async def test_shutting_down_in_that_moment_waits_for_nothing(self, houses: Houses) -> None:
        house = houses()

        def launch(model: str, number: int) -> Spawn:
            raise EngineMissing("install it")

        house.launch = launch
        house.pool.start("a")
        await within(1, house.pool.stop_all())
        await turn()
        assert house.pool.scheduler.live == 0


class TestCheck:
    """Nobody is evicted, and nothing is started, for a model that plainly cannot be."""

    @staticmethod
    def refuse(model: str) -> None:
        raise ModelStartFailed(f"{model}: its file is gone")

    async def test_what_it_finds_is_the_answer_and_the_others_stay(self, houses: Houses) -> None:
        house = houses(models_max=1)
        puppet = await house.ready("a")
        house.check = self.refuse
        error = await house.client("b").refused()
        assert isinstance(error, ModelStartFailed)
        assert str(error) == "b: its file is gone"
        with pytest.raises(ModelStartFailed):
            house.pool.start("b")
        await turn()
        assert (puppet.asked, len(house.puppets)) == ([], 1)

    async def test_a_model_that_runs_is_not_checked(self, houses: Houses) -> None:
        house = houses()
        await house.ready()
        house.check = self.refuse
        async with asyncio.timeout(PATIENCE), house.pool.lease("a"):
            pass


class TestWeight:
    """What is measured takes the place of what was thought, as far as it is known."""

    async def test_what_the_driver_does_not_tell_stays_as_it_was_thought_to_be(
        self, houses: Houses, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Devices, "used", lambda self, pids: ())
        house = houses()
        house.check = lambda model: Footprint(1, (5, 6))
        house.client()
        puppet = await house.puppet()
        puppet.process = os.getpid()
        backend = house.pool.backends["a"]
        assert backend.footprint == Footprint(1, (5, 6))
        puppet.ready()
        await until(lambda: backend.footprint != Footprint(1, (5, 6)))
        assert backend.footprint
        assert (backend.footprint.ram > 1, backend.footprint.devices) == (True, (5, 6))


class TestRoom:
    async def test_an_idle_model_makes_room_and_is_gone_before_the_next_begins(self, houses: Houses) -> None:
        house = houses(models_max=1)
        one = await house.ready("a")
        one.stubborn = True
        client = house.client("b")
        await until(lambda: one.asked)
        await turn()
        assert (one.asked, len(house.puppets)) == (["stop"], 1)
        one.die()
        two = await house.puppet(2)
        two.ready()
        assert (await client.granted()).backend is two

    async def test_a_busy_one_ends_what_it_does_first(self, houses: Houses) -> None:
        house = houses(models_max=1, max_wait=0, min_residency=0)
        one = await house.ready("a")
        holder = house.client("a")
        await holder.granted()
        house.client("b")
        await turn()
        late = house.client("a")
        await turn()
        assert (one.asked, late.lease) == ([], None)
        await holder.let_go()
        await until(lambda: one.asked == ["stop"])

    async def test_stopping_by_request(self, houses: Houses) -> None:
        house = houses(one_at_a_time())
        puppet = await house.ready()
        holder, waiting = house.client(), house.client()
        await holder.granted()
        house.pool.stop("a")
        assert isinstance(await waiting.refused(), Unavailable)
        assert puppet.asked == []
        await holder.let_go()
        await until(lambda: puppet.asked == ["stop"])

    async def test_restarting_by_request(self, houses: Houses) -> None:
        house = houses(one_at_a_time())
        puppet = await house.ready()
        holder, waiting = house.client(), house.client()
        await holder.granted()
        house.pool.restart("a")
        assert puppet.asked == []
        await holder.let_go()
        await until(lambda: puppet.asked == ["stop"])
        assert waiting.lease is None
        waiting.task.cancel()


class TestAlarm:
    async def test_waiting_has_an_end(self, houses: Houses) -> None:
        house = houses(queue_timeout=0.1)
        began = time.monotonic()  # the pool's own clock; uvloop's has whole milliseconds
        error = await house.client().refused()
        assert isinstance(error, QueueTimeout)
        assert 0.1 <= time.monotonic() - began < 5

    async def test_it_rings_for_each_in_turn(self, houses: Houses) -> None:
        house = houses(queue_timeout=0.2)
        first = house.client()
        await asyncio.sleep(0.1)
        second, third = house.client("b"), house.client("a")
        assert isinstance(await first.refused(), QueueTimeout)
        assert not second.task.done()
        assert isinstance(await second.refused(), QueueTimeout)
        assert isinstance(await third.refused(), QueueTimeout)

    async def test_an_earlier_one_comes_before_one_that_is_set(self, houses: Houses) -> None:
        house = houses({"a": ModelConfig(path="a", ttl=60), "b": ModelConfig(path="b")}, queue_timeout=0.1)
        await house.ready("a")
        assert isinstance(await house.client("b").refused(), QueueTimeout)

    async def test_a_later_one_is_not_lost_when_the_earlier_is_no_longer_needed(self, houses: Houses) -> None:
        house = houses({"a": ModelConfig(path="a", ttl=0.3), "b": ModelConfig(path="b")}, queue_timeout=0.2)
        puppet = await house.ready("a")
        client = house.client("b")
        await house.puppet(2)
        client.task.cancel()
        await until(lambda: puppet.asked == ["stop"], 5)

    async def test_an_idle_model_goes_when_its_time_has_come(self, houses: Houses) -> None:
        house = houses({"a": ModelConfig(path="a", ttl=0.1)})
        puppet = await house.ready()
        async with house.pool.lease("a"):
            await asyncio.sleep(0.15)
            assert puppet.asked == []
        await until(lambda: puppet.asked == ["stop"], 5)


class TestClosing:
    async def test_with_nothing_to_do_it_is_done(self, houses: Houses) -> None:
        house = houses()
        puppet = await house.ready()
        assert await asyncio.wait_for(house.pool.close(60), PATIENCE)
        assert puppet.asked == ["stop"]
        assert house.pool.running("a") is None

    async def test_those_inside_may_end_and_those_who_wait_are_served(self, houses: Houses) -> None:
        house = houses(one_at_a_time())
        puppet = await house.ready()
        holder, waiting = house.client(), house.client()
        await holder.granted()
        closing = spawn(house.pool.close(60), name="close")
        await turn()
        assert isinstance(await house.client().refused(), ShuttingDown)
        await holder.let_go()
        await waiting.granted()
        assert (closing.done(), puppet.asked) == (False, [])
        await waiting.let_go()
        assert await asyncio.wait_for(closing, PATIENCE)
        assert puppet.asked == ["stop"]

    async def test_so_are_those_whose_model_still_loads(self, houses: Houses) -> None:
        house = houses()
        client = house.client()
        puppet = await house.puppet()
        closing = spawn(house.pool.close(60), name="close")
        await turn()
        assert (closing.done(), puppet.asked) == (False, [])
        puppet.ready()
        await client.granted()
        await client.let_go()
        assert await asyncio.wait_for(closing, PATIENCE)

    @pytest.mark.parametrize("drain_timeout", [0, 0.05])
    async def test_but_not_for_ever(self, houses: Houses, drain_timeout: float) -> None:
        house = houses(one_at_a_time())
        puppet = await house.ready()
        holder, waiting = house.client(), house.client()
        await holder.granted()
        assert not await asyncio.wait_for(house.pool.close(drain_timeout), PATIENCE)
        assert isinstance(await waiting.refused(), ShuttingDown)
        assert puppet.asked == ["stop"]
        await holder.let_go()

    async def test_no_time_to_drain_is_enough_where_nothing_is_in_flight(self, houses: Houses) -> None:
        house = houses()
        await house.ready()
        assert await asyncio.wait_for(house.pool.close(0), PATIENCE)

    async def test_hurrying_ends_the_drain_and_kills(self, houses: Houses) -> None:
        house = houses()
        puppet = await house.ready()
        puppet.stubborn = True
        holder = house.client()
        await holder.granted()
        closing = spawn(house.pool.close(60), name="close")
        await turn()
        house.pool.hurry()
        assert not await asyncio.wait_for(closing, PATIENCE)
        assert "kill" in puppet.asked

    async def test_hurrying_also_ends_a_stop_that_does_not_come_to_its_end(self, houses: Houses) -> None:
        house = houses()
        puppet = await house.ready()
        puppet.stubborn = True
        closing = spawn(house.pool.close(60), name="close")
        await until(lambda: puppet.asked == ["stop"])
        await turn()
        assert not closing.done()
        house.pool.hurry()
        assert await asyncio.wait_for(closing, PATIENCE)

    async def test_hurrying_starts_nothing_for_those_who_still_wait(self, houses: Houses) -> None:
        house = houses(one_at_a_time())
        await house.ready()
        holder, waiting = house.client(), house.client()
        await holder.granted()
        closing = spawn(house.pool.close(60), name="close")
        await turn()
        house.pool.hurry()
        assert isinstance(await waiting.refused(), ShuttingDown)
        await asyncio.wait_for(closing, PATIENCE)
        assert len(house.puppets) == 1

    async def test_a_model_that_still_loads_is_stopped_too(self, houses: Houses) -> None:
        house = houses()
        client = house.client()
        puppet = await house.puppet()
        await within(PATIENCE, house.pool.stop_all())
        assert puppet.asked == ["stop"]
        assert isinstance(await client.refused(), ShuttingDown)

    async def test_afterwards_nothing_is_granted_or_started(self, houses: Houses) -> None:
        house = houses()
        await house.pool.stop_all()
        assert isinstance(await house.client().refused(), ShuttingDown)
        house.pool.start("a")
        await turn()
        assert house.puppets == []


class TestAnything:
    """Clients that come and go, engines that load and die: whatever happens, the law holds."""

    @pytest.mark.parametrize("seed", range(6))
    async def test_at_random(self, houses: Houses, seed: int) -> None:
        chance = random.Random(seed)
        house = houses(one_at_a_time(), models_max=2, max_wait=0.01, min_residency=0, queue_timeout=0.1)
        launch = house.launch

        async def fate(puppet: Puppet) -> None:
            await puppet.begun.wait()
            await turn(chance.randrange(8))
            if chance.random() < 0.8:
                puppet.ready()
            await turn(chance.randrange(60))
            if chance.random() < 0.6:
                puppet.die(retry=chance.random() < 0.5)

        def launch_by_chance(model: str, number: int) -> Spawn:
            if chance.random() < 0.1:
                raise EngineMissing("by chance")
            puppet = launch(model, number)
            assert isinstance(puppet, Puppet)
            house.tasks.append(spawn(fate(puppet), name="fate"))
            return puppet

        async def visit() -> None:
            try:
                async with house.pool.lease(chance.choice("abc"), light=chance.random() < 0.1) as lease:
                    await turn(chance.randrange(6))
                    if chance.random() < 0.8:
                        lease.answered()
            except GatewayError:
                pass

        house.launch = launch_by_chance
        for _ in range(300):
            visitor = spawn(visit(), name="visitor")
            house.tasks.append(visitor)
            await turn(chance.randrange(4))
            if chance.random() < 0.3:
                chance.choice(house.tasks).cancel()
            assert len([puppet for puppet in house.puppets if not puppet.exited.is_set()]) <= 2
        await asyncio.sleep(0.05)
        house.journal.outcomes()


class TestRealEngines:
    """The same with processes: the fake llama-server, started as the gateway starts it."""

    @pytest.fixture
    async def pools(
        self, short_path: Path, run_directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[Callable[..., Pool]]:
        (short_path / "state").mkdir()
        async with AsyncExitStack() as stack:

            def build(names: str = "a", stop_timeout: float = 10.0, models_max: int = 2, **environment: str) -> Pool:
                engine = EngineConfig(stop_timeout=stop_timeout)
                models = {name: ModelConfig(path=name, concurrency=500) for name in names}
                config = Config(engine=engine, models=models, limits=LimitsConfig(models_max=models_max, linger=0.0))

                def launch(name: str, number: int) -> Spawn:
                    address = Address(socket=run_directory.socket(name, number))
                    command = fake_command(address, short_path / "state", name, environment)
                    return Spawn(name, number, address, command, engine, run_directory)

                pool = Pool(models, config, launch)
                journal = Journal(pool, monkeypatch)
                stack.callback(journal.check)
                stack.push_async_callback(pool.stop_all)
                return pool

            yield build

    @pytest.fixture
    def spawned(self, short_path: Path) -> Callable[[], list[int]]:
        def read() -> list[int]:
            lines = (short_path / "state" / "journal").read_text().splitlines()
            return [int(line.split()[1]) for line in lines if line.startswith("spawn ")]

        return read

    async def ask(self, lease: Lease) -> str:
        body = json.dumps({"prompt": "hi", "max_tokens": 1}).encode()
        fields = b"Content-Type: application/json\r\n"
        async with lease.upstream.exchange("POST", "/completion", fields, body) as response:
            assert response.status == 200
            lease.answered()
            return str(json.loads(await response.read())["content"])

    async def test_two_hundred_at_once_are_served_by_one_process(
        self, pools: Callable[..., Pool], spawned: Callable[[], list[int]]
    ) -> None:
        pool = pools()

        async def visit() -> str:
            async with pool.lease("a") as lease:
                return await self.ask(lease)

        async with asyncio.timeout(30):
            answers = await asyncio.gather(*(visit() for _ in range(200)))
        [pid] = spawned()
        assert {answer.split()[0] for answer in answers} == {f"a:{pid}"}

    async def test_after_a_crash_the_next_lease_is_on_a_new_process(
        self, pools: Callable[..., Pool], spawned: Callable[[], list[int]]
    ) -> None:
        pool = pools()
        async with pool.lease("a") as lease:
            assert lease.backend.pid
            first = lease.backend.pid
            os.kill(first, signal.SIGKILL)
            assert await lease.backend_gone(PATIENCE)
        async with asyncio.timeout(PATIENCE), pool.lease("a") as lease:
            assert lease.backend.pid != first
            assert str(lease.backend.pid) in await self.ask(lease)
        assert len(spawned()) == 2

    async def test_two_models_in_one_place_take_turns(
        self, pools: Callable[..., Pool], spawned: Callable[[], list[int]]
    ) -> None:
        pool = pools("ab", models_max=1)
        for name in "abab":
            async with asyncio.timeout(PATIENCE), pool.lease(name) as lease:
                assert (await self.ask(lease)).startswith(f"{name}:")
                assert [pid for pid in spawned() if alive(pid)] == [lease.backend.pid]
        assert len(spawned()) == 4

    async def test_one_that_does_not_stop_is_made_to(self, pools: Callable[..., Pool]) -> None:
        pool = pools(stop_timeout=0.2, FAKE_IGNORE_SIGTERM="1", FAKE_GRANDCHILD="1")
        async with pool.lease("a") as lease:
            pid = lease.backend.pid
        assert pid
        assert await asyncio.wait_for(pool.close(10), PATIENCE)
        assert not known(pid)

    async def test_hurrying_does_not_wait_for_that(self, pools: Callable[..., Pool]) -> None:
        pool = pools(stop_timeout=60, FAKE_IGNORE_SIGTERM="1")
        async with pool.lease("a") as lease:
            pid = lease.backend.pid
            assert pid
            closing = spawn(pool.close(60), name="close")
            await turn()
            pool.hurry()
            assert not await asyncio.wait_for(closing, PATIENCE)
            assert not known(pid)

    async def test_leaving_while_it_loads_leaves_nobody_behind(
        self, pools: Callable[..., Pool], spawned: Callable[[], list[int]]
    ) -> None:
        pool = pools(FAKE_LOAD_SECONDS="0.3")

        async def visit() -> None:
            async with pool.lease("a") as lease:
                await self.ask(lease)

        visitors = [spawn(visit(), name="visit") for _ in range(20)]
        await until(lambda: pool.running("a"))
        for visitor in visitors[:-1]:
            visitor.cancel()
        await within(PATIENCE, visitors[-1])
        assert (pool.scheduler.in_flight, pool.scheduler.queued, len(spawned())) == (0, 0, 1)


async def test_what_happens_to_backends_is_told_in_order(houses: Houses) -> None:
    house = houses()
    told: list[tuple[str, str, int]] = []
    house.pool._observe = lambda news: told.append((type(news).__name__, news.model, news.spawn))
    first = await house.ready("a")
    house.pool.stop("a")
    await until(lambda: first.exited.is_set())
    house.client("a")
    (await house.puppet(2)).die("it does not start", retry=False)
    await until(lambda: len(told) == 6)
    assert [name for name, _, _ in told] == ["Start", "BackendReady", "Stop", "BackendExited", "Start", "BackendExited"]
    assert [number for _, _, number in told] == [1, 1, 1, 1, 2, 2]
