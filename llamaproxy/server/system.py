"""`GET /api/system`: the machine, the gateway's process and the engines, now and in the past.

Reads what `monitor` has seen, and asks nobody.
"""

import os
import platform
import time
from collections import Counter
from dataclasses import asdict
from functools import cache
from typing import Any

from aiohttp import web

from llamaproxy import __version__
from llamaproxy.backends.pool import Pool
from llamaproxy.server.answers import json_response
from llamaproxy.server.monitor import Monitor
from llamaproxy.telemetry.engines import Engine
from llamaproxy.telemetry.history import History
from llamaproxy.telemetry.probe import Probe
from llamaproxy.telemetry.series import TIERS, parse_range
from llamaproxy.telemetry.traffic import Traffic


class System:
    """Handlers for `/api/system` and `/api/system/history`."""

    def __init__(self, pool: Pool, history: History, traffic: Traffic, monitor: Monitor) -> None:
        self._pool = pool
        self._history = history
        self._traffic = traffic
        self._monitor = monitor

    async def now(self, request: web.Request) -> web.Response:
        return json_response(self.state())

    def state(self) -> dict[str, Any]:
        """What cannot be told is null; why, is in `reasons`, if anybody knows."""
        monitor = self._monitor
        probes: dict[str, Probe[Any]] = {
            "host": monitor.host,
            "disk": monitor.disk,
            "nvidia": monitor.nvidia,
            "amd": monitor.amd,
        }
        host, place = monitor.host.value, monitor.disk.value
        return {
            "time": round(time.time(), 3),
            "version": __version__,
            "uptime": round(time.monotonic() - monitor.started_at, 1),
            "os": _os(),
            "host": asdict(host) if host else None,
            "disk": asdict(place) if place else None,
            "gpus": [asdict(gpu) for gpu in monitor.gpus],
            "reasons": {name: reason for name, probe in probes.items() if (reason := probe.reading()[1])},
            "models": Counter(backend.state.value for backend in self._pool.backends.values()),
            "requests": {"in_flight": self._history.ledger.in_flight, "queued": self._pool.scheduler.queued},
            "per_minute": self._traffic.per_minute(),
            "generation_per_second": _rounded(monitor.generation.per_second),
            "engines": {name: _shown(engine) for name, engine in monitor.engines.known().items()},
        }

    async def past(self, request: web.Request) -> web.Response:
        """Columns of equal length, the oldest step first: `timestamp`, in seconds since the epoch, is its beginning."""
        name = parse_range(request.query.get("range", "1h"))
        columns = self._history.series.columns(name, time.time())
        return json_response({"range": name, "step": TIERS[name][0], "columns": columns})


def _rounded(speed: float | None) -> float | None:
    return None if speed is None else round(speed, 1)


def _shown(engine: Engine) -> dict[str, Any]:
    """`age`: seconds since it was asked."""
    told = {reading.name: reading.value for reading in engine.readings}
    age = round(time.monotonic() - engine.at, 1)
    return {"error": engine.error, "age": age, "metrics": {**told, **engine.rates}}


@cache
def _os() -> dict[str, Any]:
    """What does not change."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
