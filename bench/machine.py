"""The machine below the measurements: what it is, and how much of it others took meanwhile."""

import os
import platform
import resource
import subprocess
import time
from pathlib import Path

import psutil

import llamaproxy

_FILES = 8192
"""Descriptors: a herd has one for each client, and as many again in the server."""


def about(engine: str, model: Path) -> dict[str, str]:
    version = subprocess.run((engine, "--version"), capture_output=True, text=True, check=False, timeout=30)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "llamaproxy": f"{llamaproxy.__version__}, Python {platform.python_version()}",
        "llama-server": (version.stdout + version.stderr).strip().splitlines()[0],
        "model": model.name,
    }


def allow_many_files() -> None:
    """As far as the machine's own limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Neighbours:
    """CPU that processes which are not ours take from now on: where it is much, wall-clock means little."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._before = _all() - _own()

    def share(self) -> float:
        """Percent of all cores, of the time since."""
        seconds = (time.monotonic() - self._begun) * (os.cpu_count() or 1)
        return max(0.0, 100 * (_all() - _own() - self._before) / seconds)


def _all() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def _own() -> float:
    """Of this process and all below it; those that ended count with the parent that reaped them."""
    total = 0.0
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total
