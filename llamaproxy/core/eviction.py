"""Which backends make room, and when.

Pure queries over the live backends; `room` acts on the answers. An idle backend may go after its linger; a busy one
only for somebody who has waited too long, and only when it has been ready long enough to have been worth loading.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from llamaproxy.config import LimitsConfig
from llamaproxy.core.backend import Backend
from llamaproxy.core.capacity import Capacity
from llamaproxy.core.events import Grounds
from llamaproxy.core.states import BackendState

MAX_LINGER = 0.1
"""Seconds. Long enough for the same client's next request, short beside any swap."""


@dataclass(frozen=True, slots=True)
class Victims:
    """Who may go now, in the order of choice, and when the next one may; None where nobody ever may."""

    now: list[Backend]
    later: float | None


def linger(backend: Backend, limits: LimitsConfig) -> float:
    """Seconds an idle backend is kept for its client's next request: a tenth of what loading it again would cost."""
    if limits.linger is not None:
        return limits.linger
    return MAX_LINGER if backend.load_seconds is None else min(MAX_LINGER, backend.load_seconds / 10)


def idle_victims(live: Iterable[Backend], limits: LimitsConfig, now: float) -> Victims:
    """Lowest priority first, then the one whose last lease ended longest ago, then the one that loads fastest."""
    idle = [backend for backend in live if backend.idle and not backend.config.pinned]
    ends = {backend.name: backend.idle_since + linger(backend, limits) for backend in idle}
    rested = [backend for backend in idle if ends[backend.name] <= now]
    rested.sort(key=lambda b: (b.config.priority, b.idle_since, b.load_seconds or 0.0))
    return Victims(rested, min((end for end in ends.values() if end > now), default=None))


def grounds(victim: Backend, idle: Sequence[Backend]) -> Grounds:
    """Why it is this one of `idle`: the first rule that tells it from those who stay."""
    others = [backend for backend in idle if backend is not victim]
    if not others:
        return Grounds.ONLY_ONE
    if any(other.config.priority > victim.config.priority and other.idle_since < victim.idle_since for other in others):
        return Grounds.PRIORITY
    if all(other.idle_since == victim.idle_since for other in others):
        return Grounds.LOADS_FASTEST
    return Grounds.LEAST_RECENTLY_USED


def busy_victims(live: Iterable[Backend], limits: LimitsConfig, now: float) -> Victims:
    """Idle ones first, then lowest priority, then the one that has had its turn for longest."""
    ready = [backend for backend in live if backend.state is BackendState.READY and not backend.config.pinned]
    ends = {backend.name: _turn_ends(backend, limits) for backend in ready}
    served = [backend for backend in ready if ends[backend.name] <= now]
    served.sort(key=lambda b: (not b.idle, b.config.priority, b.ready_since))
    return Victims(served, min((end for end in ends.values() if end > now), default=None))


def _turn_ends(backend: Backend, limits: LimitsConfig) -> float:
    served = backend.ready_since + limits.min_residency
    return min(served, backend.idle_since + linger(backend, limits)) if backend.idle else served


def enough(backend: Backend, capacity: Capacity, victims: Sequence[Backend]) -> list[Backend] | None:
    """The victims, in their order, that must go for the backend to fit; None where even all would not do."""
    left = capacity.copy()
    chosen: list[Backend] = []
    for victim in victims:
        if left.fits(backend):
            break
        left.give(victim)
        chosen.append(victim)
    if not left.fits(backend):
        return None
    return _needed(chosen, left, lambda victim: left.fits(backend))


def relief(capacity: Capacity, victims: Sequence[Backend]) -> list[Backend]:
    """The victims, in their order, whose leaving brings what is overdrawn back within its limit, or nearer to it."""
    left = capacity.copy()
    chosen: list[Backend] = []
    for victim in victims:
        if left.relieved_by(victim):
            left.give(victim)
            chosen.append(victim)
    return _needed(chosen, left, lambda victim: not left.relieved_by(victim))


def _needed(chosen: list[Backend], left: Capacity, may_stay: Callable[[Backend], bool]) -> list[Backend]:
    """Without those whose leaving turns out not to matter; `left` is what is there when all have gone."""
    needed: list[Backend] = []
    for victim in reversed(chosen):
        left.take(victim)
        if not may_stay(victim):
            left.give(victim)
            needed.insert(0, victim)
    return needed
