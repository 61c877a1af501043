"""The waiting room: queued requests and wanted backends.

Owns the bookkeeping that must agree: the queue of each backend, the request's way back to its backend, the order of
deadlines, and which backends anybody wants. Decides nothing; `scheduler` and `orders` do.
"""

import heapq
from collections.abc import Iterator

from llamaproxy.core.backend import Backend, Waiter
from llamaproxy.core.events import Effect, Reject
from llamaproxy.core.states import BackendState
from llamaproxy.errors import GatewayError

MAX_RETRY_AFTER = 60.0
"""Seconds: an estimate beyond this says less than "a minute"."""

_SLACK = 64


class WaitingRoom:
    """All queues together."""

    def __init__(self) -> None:
        self._queued: dict[str, Backend] = {}
        self._wanted: dict[str, Backend] = {}
        self._deadlines: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._queued)

    @property
    def any_wanted(self) -> bool:
        """Whether anybody waits for a backend."""
        return bool(self._wanted)

    def add(self, backend: Backend, waiter: Waiter) -> None:
        backend.enqueue(waiter)
        self._queued[waiter.request] = backend
        self._wanted[backend.name] = backend
        heapq.heappush(self._deadlines, (waiter.deadline, waiter.request))
        if len(self._deadlines) > 2 * len(self._queued) + _SLACK:
            self._drop_stale()

    def take(self, request: str) -> tuple[Backend, Waiter] | None:
        """Remove a request, if it is here."""
        return self._remove(request) if request in self._queued else None

    def leave(self, request: str) -> None:
        """It waits no more, if it is here at all; where it was to be a probe, another may be one."""
        if taken := self.take(request):
            taken[0].breaker.probe_left(request)

    def reject_all(self, backend: Backend, error: GatewayError, out: list[Effect]) -> None:
        """The same answer for everybody who waits for the backend, and nobody wants it any more."""
        for request in list(backend.queue):
            self.leave(request)
            out.append(Reject(request, error.again()))
        self.want_no_more(backend)

    def want(self, backend: Backend, now: float) -> None:
        """Somebody wants the backend resident without a request of its own."""
        if backend.start_wanted is None:
            backend.start_wanted = now
        self._wanted[backend.name] = backend

    def want_no_more(self, backend: Backend) -> None:
        backend.start_wanted = None
        self._forget_if_unwanted(backend)

    def wanted(self) -> list[Backend]:
        return list(self._wanted.values())

    def cold(self) -> list[Backend]:
        """Wanted backends without a process, longest wanted first."""
        stopped = [backend for backend in self._wanted.values() if backend.state is BackendState.STOPPED]
        return sorted(stopped, key=lambda backend: (backend.wanted_since or 0.0, backend.yielded_at))

    def expire(self, now: float) -> Iterator[tuple[Backend, Waiter]]:
        """Remove the requests whose deadline has passed."""
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            yield self._remove(self._deadlines[0][1])

    def next_deadline(self) -> float | None:
        while self._deadlines:
            deadline, request = self._deadlines[0]
            backend = self._queued.get(request)
            if backend and backend.queue[request].deadline == deadline:
                return deadline
            heapq.heappop(self._deadlines)
        return None

    def _remove(self, request: str) -> tuple[Backend, Waiter]:
        backend = self._queued.pop(request)
        waiter = backend.queue.pop(request)
        self._forget_if_unwanted(backend)
        return backend, waiter

    def _drop_stale(self) -> None:
        """Deadlines of taken requests leave at the head only, and one patient waiter there would keep them all."""
        self._deadlines = [(backend.queue[request].deadline, request) for request, backend in self._queued.items()]
        heapq.heapify(self._deadlines)

    def _forget_if_unwanted(self, backend: Backend) -> None:
        if backend.wanted_since is None:
            self._wanted.pop(backend.name, None)


def patience(backend: Backend) -> float:
    """Seconds after which asking again has a fair chance, from what was measured; 1 to MAX_RETRY_AFTER."""
    turns = 1 + len(backend.queue) // backend.concurrency
    wait = turns * (backend.service_seconds or 1.0)
    if backend.state is not BackendState.READY:
        wait += backend.load_seconds or 1.0
    return min(MAX_RETRY_AFTER, max(1.0, wait))
