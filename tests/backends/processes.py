"""How the tests look at processes: by what the kernel says of them, never by what the code under test believes."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import psutil

PATIENCE = 10.0
"""Seconds after which something that should have happened is taken for never happening."""


def alive(pid: int) -> bool:
    """A zombie is not: it has ended, and waits only for a parent that is told."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_executed(pid: int) -> None:
    """Popen returns a moment before the kernel has the arguments of the new program."""
    end = time.monotonic() + PATIENCE
    while not psutil.Process(pid).cmdline():
        assert time.monotonic() < end
        time.sleep(0.001)


def known(pid: int) -> bool:
    """Whether the process is in the table at all, zombies included."""
    return psutil.pid_exists(pid)


async def within(seconds: float, what: Awaitable[object]) -> float:
    """How long it took. Raises TimeoutError."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        await what
    return time.monotonic() - began


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """For what only looking can tell."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)
