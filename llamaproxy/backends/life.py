"""What the pool needs of a backend's life, whoever leads it: a process here, or a watch over a server elsewhere.

Owns no behaviour: `spawn` and `remote` have it.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from llamaproxy.backends.output import OutputLog
from llamaproxy.backends.slots import Carry
from llamaproxy.backends.upstream import Upstream
from llamaproxy.core.events import BackendExited, BackendReady, StopReason

Report = Callable[[BackendReady | BackendExited], None]


class Life(Protocol):
    """One life of one backend; `exited` is set when its end was reported, `started_at` in monotonic seconds.

    `crashed`: the process ended itself by a signal, which is evidence against the requests it was serving. `carry`
    knows of its slots, where they are carried over to the next life.
    """

    model: str
    number: int
    log: OutputLog
    started_at: float
    upstream: Upstream
    exited: asyncio.Event
    crashed: bool
    carry: Carry | None

    @property
    def pid(self) -> int | None:
        """The process, where there is one here that runs."""

    @property
    def longest_stop(self) -> float:
        """Seconds in which `stop` ends everything that can be ended at all."""

    async def run(self, report: Report) -> None:
        """Live. Reports BackendReady at most once, and then or instead BackendExited exactly once."""

    async def stop(self, reason: StopReason = StopReason.REQUESTED) -> None:
        """End it, whatever it is doing; returns when that is done or out of its hands."""

    async def kill(self) -> None:
        """End it without any patience."""

    async def kill_if_hung(self) -> None:
        """Requests had no answer in time: one that does not tell its health either is ended."""

    def suspect(self) -> None:
        """A connection to it broke: if it is gone, that shall be known soon."""
