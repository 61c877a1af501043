"""The machine as psutil sees it: processors, memory, network, disk, and this process.

Reads only, and blocks while it does (a millisecond as a rule; a disk for ever): `probe` asks. Shares and rates are
those since the look before, so that the first look has none.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

_LOOPBACK = ("lo", "Loopback")


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes of the file system that `path` is on. `free` is what this user may still write."""

    path: str
    total: int
    used: int
    free: int


@dataclass(frozen=True, slots=True)
class Process:
    """This process. `cpu_percent` is 100 for one busy core; `descriptors` is None where the platform has none."""

    memory: int
    cpu_percent: float | None
    cpu_seconds: float
    threads: int
    descriptors: int | None


@dataclass(frozen=True, slots=True)
class Host:
    """Percents from 0 to 100, `cores` one by one; sizes in bytes; `_rate` in bytes a second; None is not known (yet).

    The network is all interfaces but loopback. `load` are the averages over 1, 5 and 15 minutes.
    """

    cpu_percent: float | None
    cores: tuple[float, ...]
    load: tuple[float, float, float]
    memory_total: int
    memory_used: int
    memory_available: int
    swap_total: int
    swap_used: int
    received: int
    sent: int
    received_rate: float | None
    sent_rate: float | None
    process: Process


@dataclass(frozen=True, slots=True)
class _Marks:
    """What is compared with the look before; `cores` are pairs of busy and all seconds."""

    at: float
    cores: tuple[tuple[float, float], ...]
    received: int
    sent: int
    own: float


class Looker:
    """Looks at the machine again and again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._process = psutil.Process()
        self._before: _Marks | None = None

    def look(self) -> Host:
        """Raises OSError or psutil.Error where the platform does not tell."""
        marks, before = self._marks(), self._before
        self._before = marks
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        elapsed = marks.at - before.at if before else 0.0

        def rate(now: float, then: float) -> float | None:
            return max(0.0, now - then) / elapsed if elapsed > 0 else None

        cores = _shares(before.cores, marks.cores) if before else ()
        own = rate(marks.own, before.own) if before else None
        return Host(
            cpu_percent=sum(cores) / len(cores) if cores else None,
            cores=cores,
            load=psutil.getloadavg(),
            memory_total=memory.total,
            memory_used=memory.total - memory.available,
            memory_available=memory.available,
            swap_total=swap.total,
            swap_used=swap.used,
            received=marks.received,
            sent=marks.sent,
            received_rate=rate(marks.received, before.received) if before else None,
            sent_rate=rate(marks.sent, before.sent) if before else None,
            process=self._own(marks, None if own is None else 100 * own),
        )

    def _marks(self) -> _Marks:
        network = psutil.net_io_counters(pernic=True)
        counted = [counts for name, counts in network.items() if not name.startswith(_LOOPBACK)]
        own = self._process.cpu_times()
        return _Marks(
            at=self._clock(),
            cores=tuple(_busy_and_all(times) for times in psutil.cpu_times(percpu=True)),
            received=sum(counts.bytes_recv for counts in counted),
            sent=sum(counts.bytes_sent for counts in counted),
            own=own.user + own.system,
        )

    def _own(self, marks: _Marks, cpu_percent: float | None) -> Process:
        with self._process.oneshot():
            return Process(
                memory=self._process.memory_info().rss,
                cpu_percent=cpu_percent,
                cpu_seconds=marks.own,
                threads=self._process.num_threads(),
                descriptors=self._process.num_fds() if hasattr(self._process, "num_fds") else None,
            )


def disk(path: str | os.PathLike[str]) -> Disk:
    """Raises OSError."""
    usage = psutil.disk_usage(os.fspath(path))
    return Disk(str(path), usage.total, usage.used, usage.free)


def _busy_and_all(times: Any) -> tuple[float, float]:
    """Linux counts the time of guests within that of users, too. Waiting for a disk is not being busy."""
    told = times._asdict()
    whole = sum(told.values()) - told.get("guest", 0.0) - told.get("guest_nice", 0.0)
    return whole - told["idle"] - told.get("iowait", 0.0), whole


def _shares(before: tuple[tuple[float, float], ...], after: tuple[tuple[float, float], ...]) -> tuple[float, ...]:
    """Percents; nothing where cores came or went."""
    if len(before) != len(after):
        return ()
    pairs = zip(before, after, strict=True)
    return tuple(_percent(busy - was_busy, whole - was_whole) for (was_busy, was_whole), (busy, whole) in pairs)


def _percent(part: float, whole: float) -> float:
    return min(100.0, max(0.0, 100 * part / whole)) if whole > 0 else 0.0
