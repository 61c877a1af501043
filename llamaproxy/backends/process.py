"""One engine process: start, wait, stop.

Owns the process, its process group and its output pipe. Knows nothing of models or readiness. A process is a session
of its own, so that one signal reaches whatever it started, and on Linux it dies with the gateway.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

from llamaproxy.backends.command import Command
from llamaproxy.backends.output import OutputLog
from llamaproxy.tasks import spawn

_PR_SET_PDEATHSIG = 1
_PIPE_GRACE = 0.5
"""Seconds for the last output to arrive after the process has gone."""
KILL_TIMEOUT = 10.0
"""Seconds for a process to be gone after KILL. One that waits inside the kernel, for a device or a file server that
does not answer, is beyond any signal."""

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class EngineProcess:
    """`exited` holds the return code once the process is reaped, its group is gone and its output is read."""

    def __init__(self, command: Command, log: OutputLog) -> None:
        self._command = command
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._reaped = False
        self._pipe_closed = asyncio.Event()
        self.exited: asyncio.Future[int] = self._loop.create_future()

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    async def start(self) -> None:
        """Raises OSError where the program cannot be executed. Where it raises, no process is left."""
        self._process = self._execute()
        transport: asyncio.ReadTransport | None = None
        try:
            transport, _ = await self._loop.connect_read_pipe(
                lambda: _Reader(self._log, self._pipe_closed), self._process.stdout
            )
            threading.Thread(target=self._watch, args=(transport,), name=f"reap-{self.pid}", daemon=True).start()
        except BaseException:  # nobody would ever reap a process that is not watched
            self._abandon(transport)
            raise

    def _abandon(self, transport: asyncio.ReadTransport | None) -> None:
        """Nobody would read what it prints, or see its end."""
        assert self._process and self._process.stdout
        self._reap()
        if transport:
            transport.close()
        with contextlib.suppress(OSError):
            self._process.stdout.close()

    def _execute(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command.argv,
            env=dict(self._command.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()) if _libc else None,
        )

    async def stop(self, timeout: float) -> None:
        """TERM, and after `timeout` seconds KILL, to the whole group; returns when the process is gone."""
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self.exited), timeout)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        self._signal(signal.SIGKILL)
        await asyncio.shield(self.exited)

    def _signal(self, number: signal.Signals) -> None:
        if not self._reaped:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _watch(self, transport: asyncio.ReadTransport) -> None:
        """Runs in a thread: the one way to notice an exit at once that works on every platform and loop."""
        assert self._process
        if sys.platform == "linux":
            # Not reaped here: until then its id cannot become that of another group, which the signal would reach.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._process.wait()
        try:
            self._loop.call_soon_threadsafe(self._gone, transport)
        except RuntimeError:
            # The loop may be gone at interpreter exit; nobody is left to be told then.
            self._process.wait()

    def _gone(self, transport: asyncio.ReadTransport) -> None:
        spawn(self._finish(self._reap(), transport), name=f"finish-{self.pid}")

    def _reap(self) -> int:
        """The process's return code; what is left of its group goes with it."""
        assert self._process
        self._signal(signal.SIGKILL)
        self._reaped = True
        return self._process.wait()

    async def _finish(self, code: int, transport: asyncio.ReadTransport) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._pipe_closed.wait(), _PIPE_GRACE)
        transport.close()
        self._log.finish()
        if not self.exited.done():
            self.exited.set_result(code)


class _Reader(asyncio.Protocol):
    """Raw blocks for ever: reading lines would end at a long one and leave the engine blocked."""

    def __init__(self, log: OutputLog, closed: asyncio.Event) -> None:
        self._log = log
        self._closed = closed

    def data_received(self, data: bytes) -> None:
        self._log.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed.set()


def _die_with(parent: int) -> Callable[[], None]:
    """Runs between fork and exec. The signal is not sent for a parent that died before it was asked for."""
    assert _libc
    prctl = _libc.prctl

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
