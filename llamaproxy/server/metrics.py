"""`GET /metrics`: everything that can be counted, as Prometheus reads it.

Owns which gauges there are: they are made of what is known at the moment, and nobody is asked anything for them. What
is counted is kept by `telemetry.traffic`.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator

from aiohttp import web

from llamaproxy import __version__
from llamaproxy.backends.pool import Pool
from llamaproxy.backends.slots import Counts
from llamaproxy.core.backend import Backend
from llamaproxy.core.breaker import BreakerState
from llamaproxy.core.states import BackendState
from llamaproxy.server.live import Live
from llamaproxy.server.monitor import Monitor
from llamaproxy.telemetry.engines import Engine
from llamaproxy.telemetry.exposition import CONTENT_TYPE, Sample, chosen, family, head, number, series
from llamaproxy.telemetry.gpu import Gpu
from llamaproxy.telemetry.history import History
from llamaproxy.telemetry.host import Disk, Host
from llamaproxy.telemetry.traffic import Traffic

_OF_GPUS = (
    ("utilization_percent", "utilization", "Share of time in which the GPU was busy"),
    ("memory_used_bytes", "memory_used", "Memory of the GPU that is used"),
    ("memory_total_bytes", "memory_total", "Memory of the GPU"),
    ("temperature_celsius", "temperature", "Temperature of the GPU"),
    ("power_watts", "power", "Power that the GPU draws"),
    ("power_limit_watts", "power_limit", "Power that the GPU may draw"),
    ("clock_mhz", "clock", "Clock of the GPU's processors"),
    ("memory_clock_mhz", "memory_clock", "Clock of the GPU's memory"),
    ("fan_percent", "fan", "Speed of the GPU's fan"),
)


_OF_ENGINES = "llamaproxy_engine_"
_BACKEND_STATES = tuple(state.value for state in BackendState)
_BREAKER_STATES = tuple(state.value for state in BreakerState)


class Metrics:
    """The page. It takes nobody's place, starts no model, and asks no engine."""

    def __init__(
        self, pool: Pool, history: History, traffic: Traffic, monitor: Monitor, kv: Counts, live: Live
    ) -> None:
        self._kv = kv
        self._live = live
        self._engine_lines: _Lines = {}
        self._pool = pool
        self._history = history
        self._traffic = traffic
        self._monitor = monitor

    async def page(self, request: web.Request) -> web.Response:
        """Others have their turn after each family: a hundred models in use have 10,000 lines."""
        written = []
        for lines in self.families():
            written.append(lines)
            await asyncio.sleep(0)
        return web.Response(body="".join(written).encode(), headers={"Content-Type": CONTENT_TYPE})

    def families(self) -> Iterator[str]:
        monitor, now = self._monitor, time.monotonic()
        # One whose name is not in the configuration any more is gone as soon as its process is.
        backends = [backend for backend in self._pool.backends.values() if not backend.removed]
        yield from self._traffic.families()
        yield from _of_backends(backends, now)
        yield from self._of_rates()
        yield from _of_engines(monitor.engines.known(), self._engine_lines)
        yield from _of_gpus(monitor.gpus)
        yield from _of_host(monitor.host.value)
        yield from _of_disk(monitor.disk.value)
        yield from _of_kv(self._kv)
        yield _one("llamaproxy_spooled_rows", "Rows of requests that wait for the database", self._history.spooled)
        yield _one("llamaproxy_websocket_clients", "Pages that are connected", self._live.pages)
        about = "Messages that pages were not sent because they did not keep up"
        yield _one("llamaproxy_websocket_dropped_total", about, self._live.dropped, "counter")
        yield _one("llamaproxy_uptime_seconds", "Time since the gateway began", now - monitor.started_at)
        yield family("llamaproxy_build_info", "gauge", "Always 1", ("version",), [((__version__,), 1)])

    def _of_rates(self) -> Iterator[str]:
        for label, rates in zip(("model", "key"), self._traffic.rates(), strict=True):
            prefix = "llamaproxy_" if label == "model" else "llamaproxy_key_"
            requests = [((name,), rate.requests) for name, rate in rates.items()]
            tokens = [((name,), rate.tokens) for name, rate in rates.items()]
            about = f"in the last minute, by {label}"
            yield family(f"{prefix}requests_per_minute", "gauge", f"Requests that ended {about}", (label,), requests)
            yield family(f"{prefix}tokens_per_minute", "gauge", f"Tokens of requests {about}", (label,), tokens)


def _one(name: str, about: str, value: float | None, kind: str = "gauge") -> str:
    return "" if value is None else family(name, kind, about, (), [((), value)])


def _of_kv(kv: Counts) -> Iterator[str]:
    saved, restored, reused = "Bytes of KV that were saved", "Tokens of KV that were restored", "Restored tokens reused"
    yield _one("llamaproxy_kv_saved_bytes_total", f"{saved} before processes stopped", kv.saved_bytes, "counter")
    yield _one("llamaproxy_kv_restored_tokens_total", f"{restored} after starts", kv.restored_tokens, "counter")
    yield _one("llamaproxy_kv_reused_tokens_total", f"{reused} by the next request", kv.reused_tokens, "counter")


def _of_backends(backends: Iterable[Backend], now: float) -> Iterator[str]:
    backends = list(backends)
    yield family(
        *("llamaproxy_inflight_requests", "gauge", "Requests that have a place on a backend", ("model",)),
        [((backend.name,), len(backend.leases)) for backend in backends],
    )
    yield family(
        *("llamaproxy_queued_requests", "gauge", "Requests that wait for a place", ("model",)),
        [((backend.name,), len(backend.queue)) for backend in backends],
    )
    states = [(backend.name, backend.state.value) for backend in backends]
    yield _of_states("llamaproxy_backend_state", "1 for the state that a backend is in", states, _BACKEND_STATES)
    states = [(backend.name, backend.breaker.state(now).value) for backend in backends]
    about = "1 for the state that a circuit breaker is in"
    yield _of_states("llamaproxy_breaker_state", about, states, _BREAKER_STATES)
    yield family(
        *("llamaproxy_memory_bytes", "gauge", "Memory that a model takes, measured or else estimated"),
        ("model", "device"),
        [sample for backend in backends for sample in _memory(backend)],
    )


def _of_states(name: str, about: str, states: Iterable[tuple[str, str]], of: tuple[str, ...]) -> str:
    lines = "".join([chosen(name, ("model", "state"), (model,), state, of) for model, state in states])
    return head(name, "gauge", about) + lines if lines else ""


def _memory(backend: Backend) -> Iterator[Sample]:
    if footprint := backend.footprint:
        yield (backend.name, "ram"), footprint.ram
        for number, size in enumerate(footprint.devices):
            yield (backend.name, f"gpu{number}"), size


_Line = tuple[str, str, str, str]
"""Of one engine's metric: its name, its kind, what it is, and the line."""
_Lines = dict[str, tuple[Engine, list[_Line]]]


def _of_engines(engines: dict[str, Engine], known: _Lines) -> Iterator[str]:
    """The engines' own names, with a prefix. Of which kind a metric is, the first of them says.

    `known` keeps the lines of engines that have told nothing new, which most have not.
    """
    about = "1 where an engine has told its metrics when it was last asked"
    up = [((model,), engine.error is None) for model, engine in engines.items()]
    yield family(f"{_OF_ENGINES}up", "gauge", about, ("model",), up)
    told: dict[str, tuple[str, str, list[str]]] = {}
    for model in known.keys() - engines.keys():
        del known[model]
    for model, engine in engines.items():
        kept = known.get(model)
        if kept is None or not _tells_the_same(kept[0], engine):
            known[model] = kept = engine, list(_of_engine(model, engine))
            # What is known may be another by the time this goes on: somebody else is served meanwhile.
            yield ""
        for name, kind, help_text, line in kept[1]:
            first, _, lines = told.get(name) or told.setdefault(name, (kind, help_text, []))
            if first == kind:
                lines.append(line)
    for name, (kind, help_text, lines) in told.items():
        yield head(f"{_OF_ENGINES}{name}", kind, help_text) + "".join(lines)


def _tells_the_same(before: Engine, now: Engine) -> bool:
    """What was told once is not changed: another answer is another tuple."""
    return before.readings is now.readings and before.rates == now.rates


def _of_engine(model: str, engine: Engine) -> Iterator[_Line]:
    labels = series("", ("model",), (model,))
    for reading in engine.readings:
        line = f"{_OF_ENGINES}{reading.name}{labels} {number(reading.value)}\n"
        yield reading.name, reading.kind, reading.help, line
    for name, rate in engine.rates.items():
        line = f"{_OF_ENGINES}{name}{labels} {number(rate)}\n"
        yield name, "gauge", "On the wall clock, since it was asked before", line


def _of_gpus(gpus: Iterable[Gpu]) -> Iterator[str]:
    named = [((gpu.vendor, str(gpu.index), gpu.name), gpu) for gpu in gpus]
    for suffix, field, about in _OF_GPUS:
        values = ((labels, getattr(gpu, field)) for labels, gpu in named)
        samples = [(labels, value) for labels, value in values if value is not None]
        yield family(f"llamaproxy_gpu_{suffix}", "gauge", about, ("vendor", "gpu", "name"), samples)


def _of_host(host: Host | None) -> Iterator[str]:
    if host is None:
        return
    prefix, own = "llamaproxy_host", host.process
    yield _one(f"{prefix}_cpu_percent", "Share of all cores that was busy", host.cpu_percent)
    cores = [((str(number),), share) for number, share in enumerate(host.cores)]
    yield family(f"{prefix}_core_percent", "gauge", "Share of a core that was busy", ("core",), cores)
    loads = [((over,), load) for over, load in zip(("1m", "5m", "15m"), host.load, strict=True)]
    yield family(f"{prefix}_load", "gauge", "Processes that run or wait to, on average", ("over",), loads)
    yield _one(f"{prefix}_memory_total_bytes", "RAM", host.memory_total)
    yield _one(f"{prefix}_memory_used_bytes", "RAM that is not available", host.memory_used)
    yield _one(f"{prefix}_memory_available_bytes", "RAM that processes can have", host.memory_available)
    yield _one(f"{prefix}_swap_total_bytes", "Swap", host.swap_total)
    yield _one(f"{prefix}_swap_used_bytes", "Swap that is used", host.swap_used)
    yield _one(f"{prefix}_network_received_bytes_total", "Received by all interfaces", host.received, "counter")
    yield _one(f"{prefix}_network_sent_bytes_total", "Sent by all interfaces", host.sent, "counter")
    yield _one("llamaproxy_process_resident_bytes", "RAM that the gateway's process holds", own.memory)
    yield _one("llamaproxy_process_cpu_seconds_total", "Processor time of the gateway", own.cpu_seconds, "counter")
    yield _one("llamaproxy_process_threads", "Threads of the gateway", own.threads)
    yield _one("llamaproxy_process_descriptors", "Files and sockets that the gateway has open", own.descriptors)


def _of_disk(disk: Disk | None) -> Iterator[str]:
    """Of the file system that models are on."""
    if disk:
        yield _one("llamaproxy_host_disk_total_bytes", "The models' file system", disk.total)
        yield _one("llamaproxy_host_disk_used_bytes", "Used of the models' file system", disk.used)
        yield _one("llamaproxy_host_disk_free_bytes", "Free on the models' file system", disk.free)
