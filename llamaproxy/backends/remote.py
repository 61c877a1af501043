"""The watch over one server elsewhere: from the first look at its health until it is lost, or no longer wanted.

Owns no process. It has a spawn's face towards the pool, so that a server that is lost is for requests what a process
that died is: they are replayed, wait for the next one, or hear the reason. It never ends an answer that has begun,
unless it is told to stop.
"""

import asyncio
import logging
import time

from llamaproxy.backends.command import Address
from llamaproxy.backends.life import Report
from llamaproxy.backends.lost import UpstreamLost
from llamaproxy.backends.output import OutputLog
from llamaproxy.backends.slots import Carry
from llamaproxy.backends.upstream import Upstream
from llamaproxy.core.events import BackendExited, BackendReady, StopReason
from llamaproxy.errors import Exhausted, GatewayError, ModelStartFailed, Unavailable
from llamaproxy.tasks import spawn

log = logging.getLogger(__name__)

START_TIMEOUT = 5.0
"""Seconds that a server which is loading, or silent, is given when it is first looked for."""
LOADING_INTERVAL = 0.25
CHECK_TIMEOUT = 5.0
"""Seconds for the head of an answer about its health."""
TOLERATED = 1
"""Failed looks in a row that may be chance."""
_LOADING = 503
_WITHOUT_HEALTH = 404
_LIST = "/v1/models"
_LONGEST_ECHO = 300


class Remote:
    """One life of the watch. Without `health_path` it is /health, and /v1/models where the server has none."""

    pid = None
    crashed = False
    carry: Carry | None = None

    def __init__(self, model: str, number: int, address: Address, health_path: str | None, interval: float) -> None:
        self.model = model
        self.number = number
        self.log = OutputLog()
        self.started_at = time.monotonic()
        self.upstream = Upstream(address, health_path or "/health")
        self.exited = asyncio.Event()
        self._may_ask_elsewhere = health_path is None
        self._interval = interval
        self._doubt = asyncio.Event()
        self._over: asyncio.Future[tuple[GatewayError, bool]] = asyncio.get_running_loop().create_future()

    @property
    def longest_stop(self) -> float:
        """Seconds: the last look at its health may have to end first."""
        return CHECK_TIMEOUT

    async def run(self, report: Report) -> None:
        """Live. Reports BackendReady at most once, and then or instead BackendExited exactly once."""
        watching = spawn(self._watch(report), name=f"watch-{self.model}-{self.number}")
        error, retry = await self._over
        watching.cancel()
        await asyncio.wait({watching})
        await self.upstream.retire()
        self.exited.set()
        report(BackendExited(self.model, self.number, error, retry))

    async def stop(self, reason: StopReason = StopReason.REQUESTED) -> None:
        """Whatever is still being answered is cut off: the scheduler lets it end first where it may."""
        self._end(Unavailable(f"{self.model}: stopped", retry_after=1), retry=True)
        await self.upstream.close()

    async def kill(self) -> None:
        await self.stop()

    async def kill_if_hung(self) -> None:
        """Nothing is killed: a server that does not tell its health either is lost."""
        if not self._over.done() and (fault := await self._fault()):
            self._end(self._lost(fault), retry=True)

    def suspect(self) -> None:
        """A broken connection and a failed look are enough, and there is no waiting for the second one."""
        self._doubt.set()

    def _end(self, error: GatewayError, retry: bool) -> None:
        if not self._over.done():
            self._over.set_result((error, retry))

    async def _watch(self, report: Report) -> None:
        try:
            await self._find()
            log.info("%s: found at %s", self.model, self.upstream.address)
            report(BackendReady(self.model, self.number))
            self._end(self._lost(await self._until_lost()), retry=True)
        except GatewayError as error:
            self._end(error, retry=False)
        except Exception as error:  # a watch that ends unheard would leave its model ready for ever
            log.exception("%s: the watch over %s failed", self.model, self.upstream.address)
            self._end(ModelStartFailed(f"{self.model}: {error}"), retry=False)

    async def _find(self) -> None:
        """Raises Unavailable. One that is loading is waited for, a little; any other fault is told at once."""
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while fault := await self._fault():
                    if fault != _answered(_LOADING):
                        break
                    await asyncio.sleep(LOADING_INTERVAL)
        except TimeoutError:
            fault = f"it was not ready within {START_TIMEOUT:.0f} s"
        if fault:
            self._note(f"not found: {fault}")
            raise Unavailable(f"{self.model}: its server is not ready: {fault}", retry_after=10)

    async def _until_lost(self) -> str:
        """Why it is."""
        failures = 0
        while True:
            doubted = await self._rest()
            fault = await self._fault()
            failures = failures + 1 if fault else 0
            if fault:
                self._note(f"failed look {failures}: {fault}")
            if fault and (doubted or failures > TOLERATED):
                return fault

    async def _rest(self) -> bool:
        """Until the next look is due; True where somebody has reason to doubt."""
        try:
            await asyncio.wait_for(self._doubt.wait(), self._interval)
        except TimeoutError:
            return False
        self._doubt.clear()
        return True

    async def _fault(self) -> str | None:
        """What is wrong with it, if anything is known to be."""
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                status = await self.upstream.status(self.upstream.health_path)
                if status == _WITHOUT_HEALTH and self._may_ask_elsewhere:
                    self._may_ask_elsewhere = False
                    self.upstream.health_path = _LIST
                    status = await self.upstream.status(_LIST)
        except UpstreamLost as lost:
            return " ".join(str(lost).split())[:_LONGEST_ECHO]
        except TimeoutError:
            return f"no answer within {CHECK_TIMEOUT:.0f} s"
        except Exhausted:
            return None  # The fault is ours.
        return None if 200 <= status < 300 else _answered(status)

    def _lost(self, fault: str) -> Unavailable:
        return Unavailable(f"{self.model}: its server is lost: {fault}", retry_after=1)

    def _note(self, line: str) -> None:
        log.warning("%s: %s: %s", self.model, self.upstream.address, line)
        self.log.feed(line.encode() + b"\n")


def _answered(status: int) -> str:
    return f"it answers {status} when asked for its health"
