"""Which backend makes room, and when.

Pure queries over the live backends; `scheduler` acts on the answers. An idle backend may go after its linger; a
busy one only for somebody who has waited too long, and only when it has been ready long enough to have been
worth loading.
"""

from collections.abc import Iterable

from llamaproxy.config import LimitsConfig
from llamaproxy.core.backend import Backend
from llamaproxy.core.states import BackendState

MAX_LINGER = 0.1
"""Seconds. Long enough for the same client's next request, short beside any swap."""


def linger(backend: Backend, limits: LimitsConfig) -> float:
    """Seconds an idle backend is kept for its client's next request: a tenth of what loading it again would cost."""
    if limits.linger is not None:
        return limits.linger
    return MAX_LINGER if backend.load_seconds is None else min(MAX_LINGER, backend.load_seconds / 10)


def idle_victim(live: Iterable[Backend], limits: LimitsConfig, now: float) -> tuple[Backend | None, float | None]:
    """The idle backend to stop now, or else the time at which there may be one.

    Lowest priority first, then the one whose last lease ended longest ago, then the one that loads fastest.
    """
    idle = [backend for backend in live if backend.idle and not backend.config.pinned]
    rested = [backend for backend in idle if backend.idle_since + linger(backend, limits) <= now]
    if rested:
        return min(rested, key=lambda b: (b.config.priority, b.idle_since, b.load_seconds or 0.0)), None
    return None, min((backend.idle_since + linger(backend, limits) for backend in idle), default=None)


def busy_victim(live: Iterable[Backend], limits: LimitsConfig, now: float) -> tuple[Backend | None, float | None]:
    """The busy backend to drain now for somebody who waited too long, or else the time at which there may be one.

    Lowest priority first, then the one that has had its turn for longest.
    """
    ready = [b for b in live if b.state is BackendState.READY and not b.config.pinned]
    served = [backend for backend in ready if backend.ready_since + limits.min_residency <= now]
    if served:
        return min(served, key=lambda b: (b.config.priority, b.ready_since)), None
    return None, min((backend.ready_since + limits.min_residency for backend in ready), default=None)
