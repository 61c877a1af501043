"""The alarm of the pool: when the scheduler wants to be asked again, if nothing happens before.

Owns one timer of the event loop. What is to be done when it rings is not known here.
"""

import asyncio
import time
from collections.abc import Callable

from llamaproxy import scope


class Alarm:
    """Calls `ring` once, at the time that was set last."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._at: float | None = None

    def set(self, at: float | None) -> None:
        """In seconds of the monotonic clock; None: never. The time that is set already costs nothing."""
        if at == self._at:
            return
        if self._timer:
            self._timer.cancel()
        self._at = at
        delay = None if at is None else max(0.0, at - time.monotonic())
        # What happens then is no doing of the request that happens to be served now.
        self._timer = None if delay is None else self._loop.call_later(delay, self._go_off, context=scope.of_nobody())

    def _go_off(self) -> None:
        self._timer = self._at = None
        self._ring()
