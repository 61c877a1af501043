"""One life of one backend, from the first try to execute it until its process is reaped.

Joins process, readiness and upstream, and turns what happens to them into the scheduler's events. Decides nothing:
when to stop is said from outside, and what an exit means for requests is the scheduler's business.
"""

import asyncio
import logging
import signal
import time
from dataclasses import dataclass

from llamaproxy.backends import oom
from llamaproxy.backends.command import Address, Command
from llamaproxy.backends.life import Report
from llamaproxy.backends.orphans import RunDirectory
from llamaproxy.backends.output import OutputLog
from llamaproxy.backends.process import KILL_TIMEOUT, EngineProcess
from llamaproxy.backends.readiness import wait_ready
from llamaproxy.backends.slots import Carry
from llamaproxy.backends.upstream import Upstream
from llamaproxy.config import EngineConfig
from llamaproxy.core.events import BackendExited, BackendReady, StopReason
from llamaproxy.errors import Exhausted, GatewayError, LoadTimeout, ModelOutOfMemory, ModelStartFailed, Unavailable
from llamaproxy.tasks import spawn

log = logging.getLogger(__name__)

TAIL_LINES = 20
HEALTH_TIMEOUT = 2.0
"""Seconds in which a process that is alive tells its health, however busy it is."""
_OUT_OF_MEMORY = (
    "failed to allocate",
    "out of memory",
    "bad_alloc",
    "cannot allocate memory",
    "insufficient memory",
    "cudamalloc failed",
)
_ADDRESS_TAKEN = ("address already in use", "couldn't bind", "failed to bind")

# What a process does to itself. A SIGKILL comes from outside and is no evidence against any request.
_CRASHES = (signal.SIGABRT, signal.SIGSEGV)


@dataclass(frozen=True, slots=True)
class _End:
    """How a life ended, as BackendExited tells it."""

    error: GatewayError
    retry: bool = False
    blameless: bool = False


class Spawn:
    """`upstream` is there from the start of the process to its end; `exited` is set when the end was reported."""

    def __init__(
        self,
        model: str,
        number: int,
        address: Address,
        command: Command,
        engine: EngineConfig,
        run: RunDirectory,
        health_path: str = "/health",
        carry: Carry | None = None,
    ) -> None:
        self.model = model
        self.number = number
        self.log = OutputLog()
        self.started_at = time.monotonic()
        self.upstream = Upstream(address, health_path)
        self.exited = asyncio.Event()
        self.crashed = False
        self.carry = carry
        self._command = command
        self._engine = engine
        self._run_directory = run
        self._process: EngineProcess | None = None
        self._restoring: asyncio.Task[None] | None = None
        self._ready = False
        self._stopping = False
        self._patience = engine.stop_timeout
        self._oom_kills = oom.kills()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and not self._process.exited.done() else None

    @property
    def longest_stop(self) -> float:
        """Seconds in which `stop` ends every process that a signal can end at all."""
        saving = self.carry.save_timeout if self.carry else 0.0
        return saving + self._engine.stop_timeout + KILL_TIMEOUT

    async def run(self, report: Report) -> None:
        """Live. Reports BackendReady at most once, and then or instead BackendExited exactly once."""
        try:
            end = await self._live(report)
        except GatewayError as failure:
            end = _End(failure, blameless=isinstance(failure, Exhausted))
        except Exception as failure:  # an exit is reported whatever happened, or its place is never free
            log.exception("%s: spawn %d failed", self.model, self.number)
            end = _End(ModelStartFailed(f"{self.model}: {failure}"))
        try:
            await self._close()
        except Exception:  # the same: what could not be tidied up keeps nobody waiting
            log.exception("%s: spawn %d left something behind", self.model, self.number)
        self.exited.set()
        report(BackendExited(self.model, self.number, end.error, end.retry, end.blameless))

    async def stop(self, reason: StopReason = StopReason.REQUESTED) -> None:
        """Slots, then connections: an engine that is serving does not exit while its clients are there."""
        first, self._stopping = not self._stopping, True
        if self._restoring:
            self._restoring.cancel()
        try:
            if self.carry and self._ready and first and reason is not StopReason.UNHEALTHY:
                await self.carry.save(self.upstream)
        finally:
            await self.upstream.close()
            if self._process:
                await self._process.stop(self._engine.stop_timeout)

    async def kill_if_hung(self) -> None:
        """A process that does not even tell its health will not finish anything: its end is a crash like any other."""
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT):
                answer = await self.upstream.health()
        except TimeoutError:
            answer = None
        except Exhausted:
            return
        if answer is None and not self._stopping and self._process and not self._process.exited.done():
            log.warning("%s: the engine hangs; killing it", self.model)
            await self._process.kill()

    def suspect(self) -> None:
        """Nothing is to be done: the exit of a process is noticed at once."""

    async def kill(self) -> None:
        self._stopping = True
        self._patience = 0.0
        if self._restoring:
            self._restoring.cancel()
        if self._process:
            await self._process.kill()

    async def _live(self, report: Report) -> _End:
        if self._stopping:
            return self._stopped()
        process = await self._start()
        ready = await self._until_ready(process)
        if ready:
            await self._restore()
            self._ready = True
            log.info("%s: ready after %.2f s", self.model, time.monotonic() - self.started_at)
            report(BackendReady(self.model, self.number))
        code = await asyncio.shield(process.exited)
        self.crashed = -code in _CRASHES
        return self._obituary(code, ready)

    async def _start(self) -> EngineProcess:
        """Raises ModelStartFailed. What was said to it meanwhile is done before it returns."""
        process = EngineProcess(self._command, self.log)
        try:
            await process.start()
        except OSError as error:
            reason = error.strerror or error
            if error.errno in Exhausted.ERRORS:
                raise Exhausted(f"{self.model}: the gateway cannot start a process: {reason}", retry_after=1) from error
            raise ModelStartFailed(f"{self.model}: cannot execute {self._command.argv[0]}: {reason}") from error
        self._process = process
        self._run_directory.add(process.pid, self._command.argv)
        log.info("%s: started, pid %d, %s", self.model, process.pid, self.upstream.address)
        if self._stopping:
            await process.stop(self._patience)
        return process

    async def _probe(self) -> int | None:
        try:
            return await self.upstream.health()
        except Exhausted:
            return None

    async def _until_ready(self, process: EngineProcess) -> bool:
        """True when ready, False when the process ended first. Raises LoadTimeout."""
        probing = spawn(
            wait_ready(self._probe, lambda: self.log.blocks, self._engine.start_timeout, time.monotonic),
            name=f"probe-{self.model}",
        )
        await asyncio.wait({probing, process.exited}, return_when=asyncio.FIRST_COMPLETED)
        if process.exited.done():
            probing.cancel()
            await asyncio.wait({probing})
            return False
        if probing.result():
            return True
        waited = time.monotonic() - self.started_at
        raise LoadTimeout(f"{self.model}: the engine was not ready after {waited:.1f} s", detail=self._tail())

    async def _restore(self) -> None:
        if self.carry and not self._stopping:
            self._restoring = spawn(self.carry.restore(self.upstream), name=f"restore-{self.model}")
            await asyncio.wait({self._restoring})

    def _obituary(self, code: int, was_ready: bool) -> _End:
        """What to tell those who wait for this spawn, and whether another one may help them."""
        if self._stopping:
            return self._stopped()
        cause = f"was killed by {_signal_name(-code)}" if code < 0 else f"exited with code {code}"
        log.warning("%s: the engine %s; its last words: %s", self.model, cause, self.log.last_error())
        killed = -code == signal.SIGKILL
        if killed and oom.kills() > self._oom_kills:
            message = f"{self.model}: not enough memory: the kernel killed the engine"
            return _End(ModelOutOfMemory(message, retry_after=10, detail=self._tail()), retry=was_ready)
        if was_ready:
            lost = Unavailable(f"{self.model}: the engine {cause}", retry_after=1, detail=self._tail())
            return _End(lost, retry=True, blameless=killed)
        if reason := self._said(_OUT_OF_MEMORY):
            return _End(ModelOutOfMemory(f"{self.model}: not enough memory: {reason}", detail=self._tail()))
        retry = code < 0 or self._said(_ADDRESS_TAKEN) is not None
        message = f"{self.model}: the engine {cause} before it was ready: {self.log.last_error()}"
        return _End(ModelStartFailed(message, retry_after=10, detail=self._tail()), retry, blameless=killed)

    def _stopped(self) -> _End:
        return _End(Unavailable(f"{self.model}: stopped", retry_after=1), retry=True)

    def _said(self, signs: tuple[str, ...]) -> str | None:
        """The first of its last lines with one of these in it: what follows from a fault comes after it."""
        return next((line for line in self.log.tail(TAIL_LINES) if any(sign in line.lower() for sign in signs)), None)

    def _tail(self) -> str:
        return "\n".join(self.log.tail(TAIL_LINES))

    async def _close(self) -> None:
        if self._process:
            await self._process.kill()
        await self.upstream.close()
        if self._process:
            self._run_directory.remove(self._process.pid)
        if self.carry:
            self.carry.process_gone()
        if socket := self.upstream.address.socket:
            socket.unlink(missing_ok=True)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
