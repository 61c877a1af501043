"""Places for backends: who starts, who makes room for whom, and which drains are called off.

Owns the live backends and every move between their states but the news of their processes. Knows nothing of requests
beyond who waits for a backend; `eviction` names the victims, `scheduler` says when to look.
"""

from llamaproxy.config import LimitsConfig
from llamaproxy.core import eviction
from llamaproxy.core.backend import Backend
from llamaproxy.core.events import Drain, Effect, Resume, Start, Stop, StopReason
from llamaproxy.core.states import BackendState


class Room:
    """At most `models_max` backends. `wake_at` is when there may be more to do, if nothing happens before."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._live: dict[str, Backend] = {}
        self.wake_at: float | None = None

    @property
    def live(self) -> int:
        """Backends that have, or may have, a process."""
        return len(self._live)

    def never_has_a_place_for(self, backend: Backend) -> bool:
        """Whether every place is taken by a backend that is pinned and stays."""
        if backend.state is not BackendState.STOPPED or len(self._live) < self._limits.models_max:
            return False
        staying = (BackendState.READY, BackendState.STARTING)
        return all(other.config.pinned and other.state in staying for other in self._live.values())

    def drain(self, backend: Backend, reason: StopReason, out: list[Effect], successor: str | None = None) -> None:
        """Stop it once nothing is in flight, which may be now."""
        backend.leaving, backend.successor = reason, successor
        if not backend.leases:
            self.stop(backend, reason, out)
        elif backend.state is BackendState.READY:
            backend.move(BackendState.DRAINING)
            out.append(Drain(backend.name, backend.spawn, reason, successor))

    def stop(self, backend: Backend, reason: StopReason, out: list[Effect]) -> None:
        backend.move(BackendState.STOPPING)
        backend.leaving = reason
        out.append(Stop(backend.name, backend.spawn, reason, backend.successor))

    def stop_all(self, reason: StopReason, out: list[Effect]) -> None:
        for backend in self._live.values():
            if backend.state is not BackendState.STOPPING:
                backend.successor = None
                self.stop(backend, reason, out)

    def gone(self, backend: Backend, now: float) -> None:
        backend.gone(now)
        del self._live[backend.name]

    def arrange(self, cold: list[Backend], now: float, out: list[Effect]) -> list[Backend]:
        """Start the first of `cold` there is room for, and make room for the others, once for each.

        `cold` is everybody wanted without a process, longest wanted first. Returns whose drain is called off.
        """
        self.wake_at = None
        self._retire(now, out)
        free = max(0, self._limits.models_max - len(self._live))
        for backend in cold[:free]:
            self._start(backend, now, out)
        placed = free + len(self._in(BackendState.STOPPING))
        unplaced = self._evict_idle(cold[placed:], now, out)
        draining = self._in(BackendState.DRAINING)
        self._drain_busy(unplaced[len(draining) :], now, out)
        return self._resume(draining, len(draining) - len(unplaced), out)

    def _in(self, state: BackendState) -> list[Backend]:
        return [backend for backend in self._live.values() if backend.state is state]

    def _wake(self, at: float | None) -> None:
        if at is not None and (self.wake_at is None or at < self.wake_at):
            self.wake_at = at

    def _start(self, backend: Backend, now: float, out: list[Effect]) -> None:
        backend.move(BackendState.STARTING)
        backend.spawn += 1
        backend.started_at = now
        self._live[backend.name] = backend
        out.append(Start(backend.name, backend.spawn))

    def _retire(self, now: float, out: list[Effect]) -> None:
        """Stop idle backends whose time to live is over, and drained ones that nothing is left on."""
        for backend in self._in(BackendState.DRAINING):
            if not backend.leases and backend.leaving:
                self.stop(backend, backend.leaving, out)
        for backend in self._live.values():
            if backend.idle and backend.config.ttl is not None:
                end = backend.idle_since + backend.config.ttl
                if end <= now:
                    self.stop(backend, StopReason.TTL, out)
                else:
                    self._wake(end)

    def _evict_idle(self, unplaced: list[Backend], now: float, out: list[Effect]) -> list[Backend]:
        """Stop an idle backend for each, as far as they go, and return the others.

        Also for those that a busy one is draining for: nothing protects an idle one, and the drain may take long.
        """
        for count, backend in enumerate(unplaced):
            victim, later = eviction.idle_victim(self._live.values(), self._limits, now)
            if not victim:
                self._wake(later)
                return unplaced[count:]
            self.drain(victim, StopReason.EVICTED, out, backend.name)
        return []

    def _drain_busy(self, unplaced: list[Backend], now: float, out: list[Effect]) -> None:
        """Drain a busy backend for each who has waited too long, or set the alarm for when that may be possible."""
        for backend in unplaced:
            overdue = (now if backend.wanted_since is None else backend.wanted_since) + self._limits.max_wait
            if overdue > now:
                return self._wake(overdue)
            victim, later = eviction.busy_victim(self._live.values(), self._limits, now)
            if not victim:
                return self._wake(later)
            victim.yielded_at = now
            self.drain(victim, StopReason.FAIRNESS, out, backend.name)

    def _resume(self, draining: list[Backend], surplus: int, out: list[Effect]) -> list[Backend]:
        """Call off drains for somebody who is no longer there."""
        resumed = [backend for backend in draining if backend.leaving is StopReason.FAIRNESS][: max(0, surplus)]
        for backend in resumed:
            backend.move(BackendState.READY)
            backend.leaving = backend.successor = None
            out.append(Resume(backend.name, backend.spawn))
        return resumed
