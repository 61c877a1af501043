"""Spawns that become ready, and end, when a test says so."""

import asyncio

from llamaproxy.backends.command import Address, Command
from llamaproxy.backends.life import Report
from llamaproxy.backends.orphans import RunDirectory
from llamaproxy.backends.spawn import Spawn
from llamaproxy.config import EngineConfig
from llamaproxy.core.events import BackendExited, BackendReady, StopReason
from llamaproxy.errors import GatewayError, Unavailable


class Puppet(Spawn):
    """A spawn without a process, or with one that is not its own; `stubborn` ones end only when they are killed."""

    stubborn = False
    process: int | None = None

    def __init__(self, model: str, number: int, run: RunDirectory) -> None:
        super().__init__(model, number, Address(port=1), Command((), {}), EngineConfig(), run)
        self.begun = asyncio.Event()
        self.asked: list[str] = []
        self._report: Report
        self._over: asyncio.Future[tuple[GatewayError, bool]] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int | None:
        return self.process

    async def run(self, report: Report) -> None:
        self._report = report
        self.begun.set()
        error, retry = await self._over
        await self.upstream.close()
        self.exited.set()
        report(BackendExited(self.model, self.number, error, retry))

    def ready(self) -> None:
        self._report(BackendReady(self.model, self.number))

    def die(self, message: str = "the engine was killed by SIGKILL", *, retry: bool = True) -> None:
        if not self._over.done():
            self._over.set_result((Unavailable(message), retry))

    async def stop(self, reason: StopReason = StopReason.REQUESTED) -> None:
        self.asked.append("stop")
        if not self.stubborn:
            self.die("stopped")

    async def kill(self) -> None:
        self.asked.append("kill")
        self.die("stopped")


async def turn(times: int = 3) -> None:
    """Let everything happen that can happen without time going by."""
    for _ in range(times):
        await asyncio.sleep(0)
