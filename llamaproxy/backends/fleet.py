"""The fleet: the lives of backends that are being led.

Owns each from its launch to its end: the task it runs in, its weight while it runs, and the end of all together. When
one begins or ends is not decided here, and no request is known: what happens is reported, and the pool makes of it what
the scheduler says.
"""

import asyncio
import functools
import logging
from collections.abc import Callable

from llamaproxy import scope
from llamaproxy.backends.life import Life, Report
from llamaproxy.backends.memory import Scale
from llamaproxy.core.events import BackendExited, BackendReady, StopReason
from llamaproxy.core.footprint import Footprint
from llamaproxy.errors import GatewayError, ModelStartFailed
from llamaproxy.tasks import spawn

log = logging.getLogger(__name__)

Launch = Callable[[str, int], Life]
"""Prepares, and does not run, spawn number N of a model. Raises GatewayError."""

Weighed = Callable[[str, Footprint], None]
"""Told what the process of a model takes, again and again while it runs."""


class Fleet:
    """`lives`, by model, are for looking at, never for changing. Must be made inside a running event loop.

    `report` is never called while one of the methods runs: an effect may not cause an event at once.
    """

    def __init__(self, launch: Launch, report: Report, weighed: Weighed) -> None:
        self.lives: dict[str, Life] = {}
        self._launch = launch
        self._report = report
        self._weighed = weighed
        self._scale = Scale()
        self._loop = asyncio.get_running_loop()
        self._runs: set[asyncio.Task[None]] = set()

    def start(self, model: str, number: int) -> None:
        """What keeps it from running is reported as its end."""
        try:
            self.lives[model] = life = self._launch(model, number)
        except GatewayError as error:
            self._loop.call_soon(self._heard, BackendExited(model, number, error))
        except Exception as error:  # whatever it is, those who wait must hear of it
            log.exception("%s: cannot be prepared", model)
            failed = BackendExited(model, number, ModelStartFailed(f"{model}: {error}"))
            self._loop.call_soon(self._heard, failed)
        else:
            run = spawn(life.run(self._heard), name=f"run-{model}-{number}", context=scope.of_model(model))
            self._runs.add(run)
            run.add_done_callback(self._runs.discard)

    def stop(self, model: str, reason: StopReason) -> None:
        """Without waiting for its end. One that has ended by itself needs nothing."""
        if life := self.lives.get(model):
            spawn(life.stop(reason), name=f"stop-{model}", context=scope.of_model(model))

    def kill(self) -> None:
        """All, without any patience."""
        for life in self.lives.values():
            spawn(life.kill(), name=f"kill-{life.model}")

    async def ended(self) -> None:
        """All that were told to stop. A process that not even KILL ends is left behind."""
        patience = max((life.longest_stop for life in self.lives.values()), default=0.0)
        if self._runs:
            await asyncio.wait(self._runs, timeout=patience)
        for life in self.lives.values():
            log.error("%s: process %s does not end, not even by KILL; leaving it behind", life.model, life.pid)

    def _heard(self, event: BackendReady | BackendExited) -> None:
        if isinstance(event, BackendExited):
            self.lives.pop(event.model, None)
        elif (life := self.lives.get(event.model)) and life.pid:
            weighed = functools.partial(self._weighed, event.model)
            spawn(self._scale.watch(life.pid, life.exited, weighed), name=f"weigh-{event.model}")
        self._report(event)
