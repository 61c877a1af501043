"""Everything at once: arrivals, departures, time to live, evictions, starts, stops and kills, against real processes.

It runs in the test's own process, where tasks can be counted too.
"""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from aiohttp.test_utils import TestClient

from llamaproxy.config import Config
from llamaproxy.errors import Unavailable
from llamaproxy.server.app import Server
from llamaproxy.server.gateway import Gateway
from llamaproxy.tasks import spawn
from tests.folders import short_folder
from tests.gateway import FAKE_ENGINE, PATIENCE, chat_body, fake_model, until
from tests.server.conftest import InboundServer

MODELS = "abcde"
MODELS_MAX = 2
WALKERS = 300
STEPS = {"lease": 54, "light": 10, "leave": 20, "request": 6, "abort": 3, "start": 5, "stop": 1, "kill": 1}
"""What a step is, and how often of a hundred."""


def configuration(folder: Path) -> Config:
    env = {"FAKE_LOAD_SECONDS": "0.02", "FAKE_TOKEN_SECONDS": "0.001"}
    ttls = dict(zip(MODELS, ("20ms", "30ms", "50ms", None, None), strict=True))
    return Config.model_validate(
        {
            "engine": {"binary": str(FAKE_ENGINE), "stop_timeout": "5s"},
            "models": {name: fake_model(folder, name, env=env, ttl=ttl, concurrency=64) for name, ttl in ttls.items()},
            "limits": {"models_max": MODELS_MAX, "max_wait": "50ms", "min_residency": "50ms"},
            "breaker": {"start_failures": 1000, "request_failures": 1000},
            "telemetry": {"database": str(folder / "llamaproxy.db")},
        }
    )


def children() -> set[int]:
    """Process ids, zombies included. The kernel's own list costs a hundredth of a walk through all processes."""
    try:
        return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))
    except FileNotFoundError:
        return {child.pid for child in psutil.Process().children()}


class Race:
    """Walkers that take steps at random, and a guard who counts the engines all the while."""

    def __init__(self, gateway: Gateway, client: TestClient[Any, Any], seed: int) -> None:
        self._pool, self._client = gateway.pool, client
        self._random = random.Random(seed)
        self._foreign = children()
        self.steps: Counter[str] = Counter()
        self.most_engines = 0

    def engines(self) -> set[int]:
        return children() - self._foreign

    async def run(self, steps: int, seconds: float) -> None:
        """So many steps, or as many as go into the time."""
        guard = spawn(self._guard(), name="guard")
        walk = self._walk(steps, time.monotonic() + seconds)
        async with asyncio.TaskGroup() as walkers:
            for _ in range(WALKERS):
                walkers.create_task(self._follow(walk))
        guard.cancel()

    def _walk(self, steps: int, end: float) -> Iterator[str]:
        kinds = self._random.choices(list(STEPS), list(STEPS.values()), k=steps)
        return (kind for kind in kinds if time.monotonic() < end)

    async def _follow(self, walk: Iterator[str]) -> None:
        for kind in walk:
            self.steps[kind] += 1
            model = self._random.choices(MODELS, (50, 20, 10, 10, 10))[0]
            with contextlib.suppress(_Refused):
                await getattr(self, f"_{kind}")(model)
            await asyncio.sleep(self._random.uniform(0, 0.01))

    async def _guard(self) -> None:
        while True:
            self.most_engines = max(self.most_engines, len(self.engines()))
            await asyncio.sleep(0.002)

    async def _lease(self, model: str, light: bool = False) -> None:
        try:
            async with self._pool.lease(model, light=light) as lease:
                await asyncio.sleep(self._random.uniform(0, 0.003))
                lease.answered()
        except Unavailable as error:
            _check_refusal(error.code)

    async def _light(self, model: str) -> None:
        await self._lease(model, light=True)

    async def _leave(self, model: str) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._lease(model), self._random.uniform(0, 0.05))

    async def _request(self, model: str) -> None:
        body = {**chat_body(model), "max_tokens": self._random.randint(1, 5)}
        async with self._client.post("/v1/chat/completions", json=body) as response:
            answer = await response.json()
            if response.status != 200:
                _check_refusal(answer["error"]["code"])

    async def _abort(self, model: str) -> None:
        body = {**chat_body(model), "max_tokens": 100, "stream": True}
        with contextlib.suppress(TimeoutError, aiohttp.ClientPayloadError):
            async with asyncio.timeout(self._random.uniform(0, 0.2)):
                async with self._client.post("/v1/chat/completions", json=body) as response:
                    await response.read()

    async def _start(self, model: str) -> None:
        self._pool.start(model)

    async def _stop(self, model: str) -> None:
        self._pool.stop(model)

    async def _kill(self, model: str) -> None:
        if (running := self._pool.running(model)) and running.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGKILL)


class _Refused(Exception):
    """The one answer beside the good one: the model was stopped by request, or killed too often."""


def _check_refusal(code: str) -> None:
    assert code == "model_unavailable"
    raise _Refused


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """When it is closed nothing of it is left: no task, no descriptor and no process."""
    me = psutil.Process()
    tasks, descriptors, before = asyncio.all_tasks(), me.num_fds(), children()
    gateway = Gateway(configuration(tmp_path), short_folder())
    yield gateway
    assert await gateway.close(PATIENCE)
    await gateway.settle()
    assert children() <= before
    teardown = asyncio.current_task()
    await until(lambda: asyncio.all_tasks() - {teardown} <= tasks, "tasks have ended", 5)
    await until(lambda: me.num_fds() <= descriptors, "descriptors are closed", 5)


@pytest.mark.parametrize(
    ("steps", "seconds"), [(10_000, 12), pytest.param(1_000_000, 600, marks=pytest.mark.soak)], ids=["short", "long"]
)
async def test_nothing_gets_stuck_or_lost_and_no_place_is_given_twice(
    gateway: Gateway, steps: int, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    client: TestClient[Any, Any]
    async with TestClient(InboundServer(Server(gateway).inbound())) as client:
        race = Race(gateway, client, seed=1)
        await race.run(steps, seconds)
        assert race.most_engines == MODELS_MAX
        ledger, scheduler = gateway.ledger, gateway.pool.scheduler
        await until(lambda: (ledger.in_flight, scheduler.in_flight, scheduler.queued) == (0, 0, 0), "all have ended")
        assert ledger.received == sum(ledger.ended.values())
        # Some left before their request was on its way.
        assert 0 <= ledger.received - race.steps["request"] <= race.steps["abort"]
        for model in MODELS:
            async with client.post("/v1/chat/completions", json=chat_body(model)) as response:
                assert response.status == 200, "each of them still works"
        assert len(race.engines()) <= MODELS_MAX
        assert not [record for record in caplog.records if record.exc_info]
