"""How long nothing has come from an engine.

Owns one timer, which is not set anew whenever something comes: when it rings it looks how long the silence has lasted,
and goes on for what is left. So a deadline for every byte costs a look at the clock.
"""

import asyncio
import math
from collections.abc import Callable

FOR_EVER = math.inf


class Silence:
    """Calls `too_long` once nothing was heard for as long as is borne.

    `heard_at` in seconds of the event loop's clock; `elsewhere` tells when others have heard something,
    where there are any. While `suspended` nothing is expected to come.
    """

    def __init__(self, too_long: Callable[[], None], elsewhere: Callable[[], float] = lambda: 0.0) -> None:
        self._loop = asyncio.get_running_loop()
        self._too_long = too_long
        self._elsewhere = elsewhere
        self._patience = FOR_EVER
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = FOR_EVER
        self.suspended = False
        self.heard_at = self._loop.time()

    def heard(self) -> None:
        self.heard_at = self._loop.time()

    def bear(self, patience: float) -> None:
        """It begins now, and may last so many seconds."""
        self._patience = patience
        self.heard_at = self._loop.time()
        if self.heard_at + patience < self._rings_at:
            self._ring_in(patience)

    def end(self) -> None:
        """Nobody waits any more; a timer that is set rings for nothing, unless it is needed again before."""
        self._patience = FOR_EVER

    def close(self) -> None:
        """Nothing will be heard any more, and nobody minds."""
        self.end()
        if self._timer:
            self._timer.cancel()

    def _ring_in(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._rings_at = self._loop.time() + seconds
        self._timer = self._loop.call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._timer, self._rings_at = None, FOR_EVER
        if self._patience == FOR_EVER:
            return
        lasted = 0.0 if self.suspended else self._loop.time() - max(self.heard_at, self._elsewhere())
        if lasted < self._patience:
            self._ring_in(self._patience - lasted)
        else:
            self._too_long()
