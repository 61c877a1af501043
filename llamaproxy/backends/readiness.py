"""When is an engine ready?

Owns the pace and the deadline of the probes; what a probe is, and what counts as progress, is its caller's business.
"""

import asyncio
from collections.abc import Awaitable, Callable

FAST_INTERVAL = 0.01
FAST_PERIOD = 2.0
SLOW_INTERVAL = 0.05
PROGRESS_LIMIT = 10
"""A start that makes progress may take this many times its timeout, and no longer: printing is not loading."""
PROBE_TIMEOUT = 5.0
"""Seconds: an engine that takes a connection and never answers must not stop the clock."""


async def wait_ready(
    probe: Callable[[], Awaitable[int | None]],
    progress: Callable[[], int],
    timeout: float,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> bool:
    """True as soon as `probe` gives 200; False when `progress` has stood still for `timeout` seconds."""
    begun = since = clock()
    seen = progress()
    while await _ask(probe, min(PROBE_TIMEOUT, timeout)) != 200:
        now = clock()
        if progress() != seen:
            seen, since = progress(), now
        if now - since >= timeout or now - begun >= timeout * PROGRESS_LIMIT:
            return False
        await sleep(FAST_INTERVAL if now - begun < FAST_PERIOD else SLOW_INTERVAL)
    return True


async def _ask(probe: Callable[[], Awaitable[int | None]], timeout: float) -> int | None:
    try:
        async with asyncio.timeout(timeout):
            return await probe()
    except TimeoutError:
        return None
