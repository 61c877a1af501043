"""Watching the machine and the engines, all the time and at nobody's expense.

Owns the one task that looks again and again, and how a sample of the machine's past is made. What blocks is asked in
threads (`telemetry.probe`), what engines say without a lease (`telemetry.engines`).
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamaproxy.backends.life import Life
from llamaproxy.backends.lost import UpstreamLost
from llamaproxy.backends.pool import Pool
from llamaproxy.core.renaming import in_query
from llamaproxy.core.states import BackendState, is_live
from llamaproxy.core.throughput import Throughput
from llamaproxy.errors import Exhausted
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.server.current import Current
from llamaproxy.server.flights import Flights
from llamaproxy.tasks import spawn
from llamaproxy.telemetry import gpu
from llamaproxy.telemetry.engines import LARGEST_PAGE, Ask, Engines, Target, Unasked
from llamaproxy.telemetry.gpu import Gpu
from llamaproxy.telemetry.history import History
from llamaproxy.telemetry.host import Disk, Host, Looker, disk
from llamaproxy.telemetry.probe import Probe
from llamaproxy.telemetry.series import STEP
from llamaproxy.telemetry.traffic import Traffic

_IN_USE = (BackendState.READY, BackendState.DRAINING)


class Monitor:
    """What is known of the machine and the engines; looks from `start` to `close`. Times in monotonic seconds."""

    def __init__(self, current: Current, pool: Pool, history: History, traffic: Traffic, flights: Flights) -> None:
        self._current = current
        self._pool = pool
        self._history = history
        self._traffic = traffic
        self._flights = flights
        self.generation = Throughput()
        self.started_at = time.monotonic()
        self._sampled = _step(time.time())
        self._task: asyncio.Task[None] | None = None
        self.host: Probe[Host] = Probe("host", Looker().look)
        self.disk: Probe[Disk] = Probe("disk", lambda: disk(self.folder))
        self.nvidia: Probe[tuple[Gpu, ...]] = Probe("nvidia", gpu.nvidia)
        self.amd: Probe[tuple[Gpu, ...]] = Probe("amd", gpu.amd)
        self._probes: tuple[Probe[Any], ...] = (self.host, self.disk, self.nvidia, self.amd)
        self.engines = Engines(self._targets)

    def start(self) -> None:
        """Begin to look. Must run inside an event loop."""
        self._task = spawn(self._run(), name="monitor")

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})
        self.engines.close()
        for probe in self._probes:
            probe.close()

    @property
    def folder(self) -> Path:
        """Where models are: the configured directory, else that of the first model, else the user's own."""
        if configured := self._current.config.catalog.models_dir:
            return Path(configured).expanduser()
        first = next((model.path for model in self._current.catalogue.configs.values() if model.path), None)
        return Path(first).absolute().parent if first else Path.home()

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """Of all vendors."""
        return (*(self.nvidia.value or ()), *(self.amd.value or ()))

    async def _run(self) -> None:
        while True:
            self._look(time.time())
            await asyncio.sleep(self._current.config.telemetry.metrics_interval)

    def _look(self, wall: float) -> None:
        """One sample for each step of the wall clock."""
        if _step(wall) != self._sampled:
            self._sampled = _step(wall)
            self._history.sample(wall, self.sample())
        for probe in self._probes:
            probe.poke()
        self._traffic.settle()
        # Engines move their counters when an answer ends; these move with every token.
        self.generation.look(self._flights.generated, time.monotonic())
        self.engines.poke()

    def sample(self) -> Sequence[float | None]:
        """As `series.COLUMNS`. Of several GPUs the mean use, the highest temperature, and sums."""
        host, place, gpus, rate = self.host.value, self.disk.value, _Gpus.of(self.gpus), self._traffic.rate()
        backends = self._pool.backends.values()
        return (
            *(
                (host.cpu_percent, host.load[0], host.memory_used, host.memory_total, host.swap_used)
                if host
                else [None] * 5
            ),
            *((place.used, place.total) if place else (None, None)),
            *((host.received_rate, host.sent_rate) if host else (None, None)),
            *(gpus.utilization, gpus.memory_used, gpus.memory_total, gpus.temperature, gpus.power),
            sum(is_live(backend.state) for backend in backends),
            self._history.ledger.in_flight,
            sum(len(backend.queue) for backend in backends),
            rate.requests,
            rate.tokens,
            time.monotonic() - self.started_at,
            self.generation.per_second,
        )

    def _targets(self) -> Iterator[Target]:
        """Engines that may have something to say. Their own clock is this process's."""
        for name, backend in self._pool.backends.items():
            life = self._pool.running(name)
            if life and backend.state in _IN_USE:
                metrics, props = (_asker(life, name, backend.config, path) for path in ("/metrics", "/props"))
                yield Target(name, life.number, bool(backend.leases), backend.idle_since, metrics, props)


def _step(wall: float) -> int:
    return int(wall // STEP)


def _asker(life: Life, name: str, model: ModelConfig, path: str) -> Ask:
    """A router behind an address has the metrics of many models, and shall load none to tell them."""
    target = path
    if model.url:
        target += f"?{in_query('autoload=false', model.upstream_name or name, add=True)}"

    async def ask() -> tuple[int, bytes]:
        try:
            async with life.upstream.exchange("GET", target, b"", None) as answer:
                return answer.status, await answer.read(LARGEST_PAGE)
        except (UpstreamLost, Exhausted) as error:
            raise Unasked(str(error) or type(error).__name__) from error

    return ask


@dataclass(frozen=True, slots=True)
class _Gpus:
    """All of them in one."""

    utilization: float | None
    memory_used: float | None
    memory_total: float | None
    temperature: float | None
    power: float | None

    @classmethod
    def of(cls, gpus: Sequence[Gpu]) -> "_Gpus":
        def known(field: str) -> list[float]:
            return [value for one in gpus if (value := getattr(one, field)) is not None]

        def total(field: str) -> float | None:
            return sum(values) if (values := known(field)) else None

        used = known("utilization")
        return cls(
            sum(used) / len(used) if used else None,
            total("memory_used"),
            total("memory_total"),
            max(known("temperature"), default=None),
            total("power"),
        )
