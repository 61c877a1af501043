"""Who may wait at all: everything that answers a request before it is queued.

Decides, and changes nothing but the turn of a breaker's probe. `scheduler` sends the answers.
"""

from llamaproxy.config import LimitsConfig
from llamaproxy.core.backend import Backend
from llamaproxy.core.events import RequestArrived
from llamaproxy.core.room import Room
from llamaproxy.core.waiting import WaitingRoom, patience
from llamaproxy.errors import GatewayError, ModelNotFound, QueueFull, ShuttingDown, Unavailable


class Admission:
    """`closing` once the gateway is going down."""

    def __init__(self, limits: LimitsConfig, room: Room, waiting: WaitingRoom) -> None:
        self.limits = limits
        self.closing = False
        self._room = room
        self._waiting = waiting

    def refusal(self, backend: Backend | None, event: RequestArrived, at_once: bool, now: float) -> GatewayError | None:
        """Why the request may not even wait, if so. `at_once`: it would not have to."""
        if backend is None or backend.removed:
            return ModelNotFound(f"there is no model {event.model!r}", param="model")
        if self.closing:
            return ShuttingDown("the gateway is shutting down", retry_after=5)
        if not backend.breaker.admits(event.request, now):
            return isolated(backend, now)
        if at_once:
            return None
        if error := self._overflow(backend):
            backend.breaker.probe_left(event.request)
        return error

    def _overflow(self, backend: Backend) -> GatewayError | None:
        own = backend.config.queue_size
        if len(self._waiting) >= self.limits.queue_size or (own is not None and len(backend.queue) >= own):
            return QueueFull("too many requests are waiting", retry_after=patience(backend))
        return self._room.wall(backend)


def isolated(backend: Backend, now: float) -> Unavailable:
    """The answer for a backend whose breaker is open."""
    return Unavailable(
        f"{backend.name} is isolated after repeated failures: {backend.breaker.reason}",
        retry_after=backend.breaker.retry_after(now),
        detail=backend.last_words,
    )
