"""Orders: what people ask for beyond requests, and what a new configuration asks for.

Decides whose process is of no use any more and who need not wait longer. Owns no state, and does not serve those who
wait: `scheduler` settles afterwards what follows.
"""

from llamaproxy.core.admission import Admission
from llamaproxy.core.backend import Backend
from llamaproxy.core.events import Effect, ModelsChanged, StopReason
from llamaproxy.core.room import Room
from llamaproxy.core.roster import Roster
from llamaproxy.core.states import BackendState
from llamaproxy.core.waiting import WaitingRoom
from llamaproxy.errors import ModelNotFound, ShuttingDown, Unavailable


class Orders:
    """A model that the configuration does not know is left as it is."""

    def __init__(self, roster: Roster, room: Room, waiting: WaitingRoom, admission: Admission) -> None:
        self._roster = roster
        self._room = room
        self._waiting = waiting
        self._admission = admission

    def start(self, model: str, now: float) -> None:
        if (backend := self._roster.model(model)) is None:
            return
        backend.breaker.reset()
        if backend.state not in (BackendState.STARTING, BackendState.READY) and not self._admission.closing:
            self._waiting.want(backend, now)

    def stop(self, model: str, out: list[Effect]) -> None:
        if (backend := self._roster.model(model)) is None:
            return
        self._waiting.reject_all(backend, Unavailable(f"{model} was stopped by request", retry_after=1), out)
        self._dismiss(backend, StopReason.REQUESTED, out)

    def restart(self, model: str, now: float, out: list[Effect]) -> None:
        if (backend := self._roster.model(model)) is None or self._admission.closing:
            return
        backend.breaker.reset()
        self._waiting.want(backend, now)
        self._dismiss(backend, StopReason.REQUESTED, out)

    def reset(self, model: str) -> None:
        """Close its breaker."""
        if backend := self._roster.model(model):
            backend.breaker.reset()

    def reconfigure(self, event: ModelsChanged, now: float, out: list[Effect]) -> None:
        """Models that are no more, or others now, leave once their leases have ended; nobody else notices."""
        self._room.limits = self._admission.limits = event.limits
        changes = self._roster.adopt(event)
        for backend in changes.removed:
            error = ModelNotFound(f"the model {backend.name!r} was removed from the configuration", param="model")
            self._waiting.reject_all(backend, error, out)
            self._outdate(backend, out)
            self._roster.drop_if_removed(backend)
        for backend in changes.replaced:
            if backend.stays and backend.config.preload and not self._admission.closing:
                self._waiting.want(backend, now)
            self._outdate(backend, out)

    def close(self) -> None:
        """Admit nobody any more; who waits is served."""
        self._admission.closing = True

    def shut_down(self, out: list[Effect]) -> None:
        self.close()
        for backend in self._waiting.wanted():
            self._waiting.reject_all(backend, ShuttingDown("the gateway is shutting down", retry_after=5), out)
        self._room.stop_all(StopReason.SHUTDOWN, out)

    def _outdate(self, backend: Backend, out: list[Effect]) -> None:
        self._dismiss(backend, StopReason.RELOADED, out)
        backend.forget()

    def _dismiss(self, backend: Backend, reason: StopReason, out: list[Effect]) -> None:
        """Its process is of no use any more, but for what it is answering."""
        if backend.state is BackendState.STARTING:
            self._room.stop(backend, reason, out)
        elif backend.state in (BackendState.READY, BackendState.DRAINING) and not backend.condemned:
            self._room.drain(backend, reason, out)
