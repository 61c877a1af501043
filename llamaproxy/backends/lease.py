"""A place on a backend, for as long as one request needs it.

Owns what the request says about the backend while it lasts. Whether there is a place is the pool's business.
"""

import asyncio
import time
from typing import Protocol, Self

from llamaproxy.backends.life import Life
from llamaproxy.backends.upstream import Upstream
from llamaproxy.core.events import NEUTRAL, SUCCESS, LeaseReleased, Outcome, RequestArrived
from llamaproxy.tasks import spawn

DEATH_NOTICE = 0.25
"""Seconds in which a process whose connection broke is known to have died, or to be alive."""


class Office(Protocol):
    """Where leases come from."""

    def at_once(self, arrival: RequestArrived) -> Life | None:
        """Ask for a place. The backend it is on, if there is one; otherwise it is to be waited for."""

    async def grant(self, arrival: RequestArrived) -> tuple[Life, float]:
        """Wait for the place that was asked for; the backend it is on, and since when that is ready."""

    def release(self, release: LeaseReleased) -> None:
        """The place is free."""

    def good_answer(self, request: str, model: str) -> None:
        """The head of a good response is here."""


class Lease:
    """Entered when there is a place, and held until the block ends.

    Entering raises what the scheduler rejects with (QueueFull, QueueTimeout, Unavailable, ModelStartFailed,
    LoadTimeout, ShuttingDown ...), or what speaks against starting a model that is not running. Durations in seconds;
    the outcome is neutral until it is set.
    """

    __slots__ = ("_arrival", "_office", "backend", "load_seconds", "outcome", "queue_seconds", "reason")

    def __init__(self, office: Office, arrival: RequestArrived) -> None:
        self._office = office
        self._arrival = arrival
        self.backend: Life
        self.queue_seconds = self.load_seconds = 0.0
        self.outcome = NEUTRAL
        self.reason = ""

    async def __aenter__(self) -> Self:
        if backend := self._office.at_once(self._arrival):
            self.backend = backend
        else:
            await self._wait()
        return self

    async def _wait(self) -> None:
        begun = time.monotonic()
        self.backend, ready_since = await self._office.grant(self._arrival)
        waited = time.monotonic() - begun
        self.load_seconds = max(0.0, min(waited, ready_since - max(begun, self.backend.started_at)))
        self.queue_seconds = waited - self.load_seconds

    async def __aexit__(self, *error: object) -> None:
        self._office.release(LeaseReleased(self._arrival.request, self.outcome, self.reason))

    @property
    def upstream(self) -> Upstream:
        return self.backend.upstream

    def answered(self) -> None:
        """The head of a good response is here."""
        self.outcome = SUCCESS
        self._office.good_answer(self._arrival.request, self._arrival.model)

    def undecided(self) -> None:
        """What has begun well may not end so."""
        self.outcome = NEUTRAL

    def failed(self, reason: str) -> None:
        self.outcome, self.reason = Outcome.FAILURE, reason

    def stalled(self, reason: str) -> None:
        """Nothing came in time: a failure, and perhaps the sign of a process that hangs."""
        self.failed(reason)
        spawn(self.backend.kill_if_hung(), name=f"suspect-{self.backend.model}")

    async def backend_gone(self, within: float) -> bool:
        """Whether the backend ends within so many seconds; a connection to it broke."""
        self.backend.suspect()
        try:
            await asyncio.wait_for(self.backend.exited.wait(), within)
        except TimeoutError:
            return False
        return True
