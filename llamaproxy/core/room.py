"""Room for backends: who starts, who makes room for whom, and which drains are called off.

Owns the live backends and every move between their states but the news of their processes. Knows nothing of requests
beyond who waits for a backend; `eviction` names the victims, `capacity` reckons, `scheduler` says when to look.
"""

from llamaproxy.config import LimitsConfig
from llamaproxy.core import eviction
from llamaproxy.core.backend import Backend
from llamaproxy.core.capacity import Capacity, Plan
from llamaproxy.core.events import Drain, Effect, Grounds, Resume, Start, Stop, StopReason
from llamaproxy.core.footprint import Footprint, merged, raised
from llamaproxy.core.states import READY, BackendState
from llamaproxy.errors import GatewayError, ModelOutOfMemory, Unavailable


class Room:
    """At most `models_max` backends, within the budgets. `wake_at`: when there may be more to do, at the latest."""

    def __init__(self, limits: LimitsConfig) -> None:
        self.limits = limits
        self._overdrawn = False
        self._live: dict[str, Backend] = {}
        self.wake_at: float | None = None

    @property
    def live(self) -> int:
        """Backends that are not STOPPED: here they have, or may have, a process."""
        return len(self._live)

    def at_rest(self, backend: Backend, now: float) -> bool:
        """Whether a lease that ends on this backend leaves nothing to arrange while nobody waits.

        Its time to live begins anew: an alarm that rings before its end, whosever it is, will be set again then.
        """
        if backend.state is not READY or self._overdrawn:
            return False
        due, ttl = self.wake_at, backend.config.ttl
        if due is None:
            return ttl is None
        return now < due and (ttl is None or due <= now + ttl)

    def wall(self, backend: Backend) -> GatewayError | None:
        """Why the backend can never be started as things are, if so."""
        if backend.state is not BackendState.STOPPED or backend.remote:
            return None
        staying = [other for other in self._placed if other.config.pinned and other.stays]
        if Capacity(self.limits, staying).fits(backend):
            return None
        if Capacity(self.limits).fits(backend):
            return Unavailable(f"{backend.name} cannot be started: the pinned models leave no room for it")
        return ModelOutOfMemory(f"{backend.name} needs more memory than the budget allows to all models together")

    def walled(self, cold: list[Backend]) -> list[tuple[Backend, GatewayError]]:
        """Those who can never be started as things are, and why; what they claimed is free for others then."""
        return [(backend, error) for backend in cold if (error := self.wall(backend))]

    def weigh(self, backend: Backend, footprint: Footprint, measured: bool) -> None:
        """Take in how large it is; a measurement goes before any estimate, and the largest before the others.

        A process that is loading takes at least what is measured, and one of an earlier configuration says nothing
        about the present one, nor does an estimate of a model that is no more about a later one of its name.
        """
        if not measured:
            backend.footprint = backend.footprint if backend.measured or backend.removed else footprint
        elif backend.held:
            backend.held = merged(backend.held, footprint)
        elif backend.footprint and (backend.measured or backend.state is BackendState.STARTING):
            backend.footprint = merged(backend.footprint, footprint)
        else:
            backend.footprint, backend.measured = footprint, True

    def crowded_out(self, backend: Backend) -> bool:
        """Its process has died for want of memory: it needs more than was thought, and fewer neighbours.

        Returns whether to try again beside one less, which is done once in a row.
        """
        neighbours = len(self._placed)
        backend.company = max(0, neighbours - 1)
        if backend.footprint:
            backend.footprint, backend.measured = raised(backend.footprint), True
        return neighbours > 0 and not backend.cramped and not self.wall(backend)

    def drain(
        self,
        backend: Backend,
        reason: StopReason,
        out: list[Effect],
        successor: str | None = None,
        grounds: Grounds | None = None,
    ) -> None:
        """Stop it once nothing is in flight, which may be now."""
        backend.leaving, backend.successor = reason, successor
        if not backend.leases:
            self.stop(backend, reason, out, grounds)
        elif backend.state is BackendState.READY:
            backend.move(BackendState.DRAINING)
            out.append(Drain(backend.name, backend.spawn, reason, successor))

    def stop(self, backend: Backend, reason: StopReason, out: list[Effect], grounds: Grounds | None = None) -> None:
        backend.move(BackendState.STOPPING)
        backend.leaving = reason
        out.append(Stop(backend.name, backend.spawn, reason, backend.successor, grounds))

    def stop_all(self, reason: StopReason, out: list[Effect]) -> None:
        for backend in self._live.values():
            if backend.state is not BackendState.STOPPING:
                backend.successor = None
                self.stop(backend, reason, out)

    def gone(self, backend: Backend, now: float) -> None:
        backend.gone(now)
        del self._live[backend.name]

    def arrange(self, cold: list[Backend], now: float, out: list[Effect]) -> list[Backend]:
        """Start those of `cold` there is room for, and make room for the others.

        `cold` is everybody wanted without a process, longest wanted first. Returns whose drain is called off.
        """
        self.wake_at = None
        self._retire(now, out)
        pinned = [backend for backend in self._yielding() if backend.config.pinned]
        for backend in pinned:
            self._resume(backend, out)
        self._shrink(now, out)
        if not (cold or self._yielding()):
            return pinned
        plan = Plan(self.limits, self._placed)
        for backend in cold:
            if backend.remote:
                self._start(backend, now, out)
            else:
                self._place(backend, plan, now, out)
        return pinned + self._call_off(plan.later, out)

    @property
    def _placed(self) -> list[Backend]:
        """Those that take something of this machine, and can make room."""
        return [backend for backend in self._live.values() if not backend.remote]

    def _in(self, state: BackendState) -> list[Backend]:
        return [backend for backend in self._live.values() if backend.state is state]

    def _yielding(self) -> list[Backend]:
        return [b for b in self._in(BackendState.DRAINING) if b.leaving is StopReason.FAIRNESS]

    def _wake(self, at: float | None) -> None:
        if at is not None and (self.wake_at is None or at < self.wake_at):
            self.wake_at = at

    def _start(self, backend: Backend, now: float, out: list[Effect]) -> None:
        backend.started_remote = backend.remote
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

    def _shrink(self, now: float, out: list[Effect]) -> None:
        """Backends grow, and limits are changed: where there is more than may be, idle ones go."""
        left = Plan(self.limits, self._placed).later
        self._overdrawn = left.overdrawn
        if not self._overdrawn:
            return
        idle = eviction.idle_victims(self._placed, self.limits, now)
        for victim in eviction.relief(left, idle.now):
            self.stop(victim, StopReason.OVER_LIMIT, out)
            left.give(victim)
        self._overdrawn = left.overdrawn
        if self._overdrawn:
            self._wake(idle.later)

    def _place(self, backend: Backend, plan: Plan, now: float, out: list[Effect]) -> None:
        """Find room that is there, or becomes so without anybody's loss; or else wait for one's turn.

        An idle backend goes also where a busy one is draining for the same: nothing protects it, and the drain may
        take long.
        """
        idle = eviction.idle_victims(self._placed, self.limits, now)
        victims = eviction.enough(backend, plan.promised, idle.now)
        if victims is None:
            self._wake(idle.later)
            return self._take_turn(backend, plan, now, out)
        for victim in victims:
            self.drain(victim, StopReason.EVICTED, out, backend.name, eviction.grounds(victim, idle.now))
        if plan.promise(backend, victims):
            self._start(backend, now, out)

    def _take_turn(self, backend: Backend, plan: Plan, now: float, out: list[Effect]) -> None:
        """Wait for those who drain already, or have busy ones drained, or set the alarm for when that may be.

        Who is overdue keeps what there is: others would take it, and be new, and so on without end.
        """
        if not plan.later.fits(backend):
            overdue = (now if backend.wanted_since is None else backend.wanted_since) + self.limits.max_wait
            if overdue > now:
                return self._wake(overdue)
            busy = eviction.busy_victims(self._placed, self.limits, now)
            if victims := eviction.enough(backend, plan.later, busy.now):
                self._yield(victims, backend, now, out)
                plan.later.give(*victims)
            else:
                self._wake(busy.later)
        plan.keep_for(backend)

    def _yield(self, victims: list[Backend], successor: Backend, now: float, out: list[Effect]) -> None:
        for victim in victims:
            victim.yielded_at = now
            self.drain(victim, StopReason.FAIRNESS, out, successor.name)

    def _call_off(self, later: Capacity, out: list[Effect]) -> list[Backend]:
        """Keep those who drain for somebody who is no longer there, or has room since others drain or left."""
        resumed = []
        for backend in self._yielding():
            if later.affords(backend):
                later.take(backend)
                self._resume(backend, out)
                resumed.append(backend)
        return resumed

    def _resume(self, backend: Backend, out: list[Effect]) -> None:
        backend.move(BackendState.READY)
        backend.leaving = backend.successor = None
        out.append(Resume(backend.name, backend.spawn))
