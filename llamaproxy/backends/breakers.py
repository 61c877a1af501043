"""What becomes of circuit breakers, for those who watch them.

A breaker tells nobody and has no clock. So it is looked at after everything that may have moved it, and when the time
for which it is open is over. While all are closed that is after failures only. Decides nothing and changes nothing.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from llamaproxy import scope
from llamaproxy.core.backend import Backend
from llamaproxy.core.breaker import BreakerState
from llamaproxy.core.events import FAILURE, BackendExited, BreakerMoved, Event, LeaseReleased

_LATE = 0.01
"""Seconds: alarms may ring a little early, and this one rings once."""


class BreakerWatch:
    """Tells of every change. Must be made inside a running event loop."""

    def __init__(self, backends: Mapping[str, Backend], tell: Callable[[BreakerMoved], None]) -> None:
        self._backends = backends
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._open: dict[str, BreakerState] = {}
        """Those that are not closed, as they were last seen."""
        self._alarms: dict[str, asyncio.TimerHandle] = {}

    def after(self, event: Event) -> None:
        """The scheduler has taken this in."""
        if isinstance(event, BackendExited) or (isinstance(event, LeaseReleased) and event.outcome is FAILURE):
            self._look(list(self._backends))
        elif self._open:
            self._look(list(self._open))

    def close(self) -> None:
        for alarm in self._alarms.values():
            alarm.cancel()

    def _look(self, names: list[str]) -> None:
        now = time.monotonic()
        for name in names:
            backend = self._backends.get(name)
            state = backend.breaker.state(now) if backend else BreakerState.CLOSED
            if state is not self._open.get(name, BreakerState.CLOSED):
                self._moved(name, backend, state, now)

    def _moved(self, name: str, backend: Backend | None, state: BreakerState, now: float) -> None:
        if alarm := self._alarms.pop(name, None):
            alarm.cancel()
        if state is BreakerState.CLOSED:
            del self._open[name]
        else:
            self._open[name] = state
        if backend is None:
            return
        if state is BreakerState.OPEN:
            delay = backend.breaker.retry_after(now) + _LATE
            self._alarms[name] = self._loop.call_later(delay, self._look, [name], context=scope.of_nobody())
        self._tell(BreakerMoved(name, backend.spawn, state, backend.breaker.reason))
