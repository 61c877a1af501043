"""How much memory an engine takes, measured.

Owns the sampling of running engines. What is measured is told; what follows from it is the scheduler's business.
"""

import asyncio
from collections.abc import Callable, Iterator

import psutil

from llamaproxy.backends.vram import Devices
from llamaproxy.core.footprint import Footprint

INTERVAL = 30.0
"""Seconds between two looks at an engine. The kernel walks all its pages for one, and it grows slowly."""


class Scale:
    """Weighs processes with everything they have started."""

    def __init__(self, devices: Devices | None = None) -> None:
        self._devices = Devices() if devices is None else devices

    def weigh(self, pid: int) -> Footprint | None:
        """RAM as the proportional set size where the kernel tells it: pages that two engines map count half for each.

        None where the process is gone, or no descriptor is left to look with: there will be another look. Takes a tenth
        of a second for a large engine.
        """
        try:
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
            ram = sum(_resident(member) for member in family)
        except (psutil.Error, OSError):
            return None
        return Footprint(ram, self._devices.used({member.pid for member in family})) if ram else None

    async def watch(
        self, pid: int, ended: asyncio.Event, report: Callable[[Footprint], None], interval: float = INTERVAL
    ) -> None:
        """Report what the process takes now, and every `interval` seconds until it has ended."""
        while not ended.is_set():
            if (footprint := await asyncio.to_thread(self.weigh, pid)) and not ended.is_set():
                report(footprint)
            try:
                await asyncio.wait_for(ended.wait(), interval)
            except TimeoutError:
                continue


def _resident(process: psutil.Process) -> int:
    return next(size for size in _sizes(process) if size is not None)


def _sizes(process: psutil.Process) -> Iterator[int | None]:
    """From the best measure to the one that every platform has."""
    try:
        yield getattr(process.memory_full_info(), "pss", None)
    except psutil.AccessDenied:
        yield None
    yield process.memory_info().rss
