"""The gateway's own folder at run time, and the engines an earlier gateway left behind.

Owns a 0700 directory for each gateway process, with the sockets of its engines and a list of who runs. A gateway that
was killed leaves its directory; the next one to start finds it, and ends what is still running. A process is ended
only when its id, its start time and its command line are those that were written down.

Where the kernel does not end children with their parent, `watch` runs this module as a small process that notices
the end of its standard input and does the same at once.
"""

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

STATE_FILE = "state.json"
NEEDS_WATCHDOG = sys.platform != "linux"
UNIX_SOCKETS = sys.platform != "win32"
_LONGEST_BASE = 50
"""Bytes: a socket's path may have 104 in all."""
_END_TIMEOUT = 2.0
"""Seconds for a process to be gone after KILL: one that holds much memory takes its time."""
_START_TOLERANCE = 2.0
"""Seconds: a start time is computed from the time of boot, which moves when the clock is set."""
_FORSAKEN_AFTER = 3600.0
"""Seconds without a change after which a directory that says nothing of its gateway has none."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a process the one that was meant; `started` in seconds since the epoch.

    `arguments` are those after the program: a script's interpreter comes before them, and takes its place.
    """

    pid: int
    started: float
    arguments: tuple[str, ...]

    def process(self) -> psutil.Process | None:
        """The running process, if it is this one."""
        try:
            process = psutil.Process(self.pid)
            same_start = abs(process.create_time() - self.started) < _START_TOLERANCE
            given = tuple(process.cmdline())[-len(self.arguments) :] if self.arguments else ()
            return process if same_start and given == self.arguments else None
        except (psutil.Error, ValueError):
            return None


def identify(pid: int, argv: Sequence[str]) -> Identity:
    """The identity of a running process that was started as `argv`. Raises psutil.NoSuchProcess."""
    return Identity(pid, psutil.Process(pid).create_time(), tuple(argv[1:]))


@dataclass(frozen=True, slots=True)
class _State:
    gateway: Identity
    children: list[Identity]


class RunDirectory:
    """This gateway's directory. Its children are written down before they can be forgotten."""

    def __init__(self, base: Path | None = None) -> None:
        self._base = base or default_base()
        self.path = _make(self._base)
        self._children: dict[int, Identity] = {}
        self._write()

    def socket(self, model: str, spawn: int) -> Path:
        """A path that no earlier spawn has used: a stale socket file keeps an engine from starting.

        Raises OSError where the directory is gone and cannot be made again.
        """
        self._hold()
        return self.path / f"{abs(hash(model)) % 10**8}-{spawn}.sock"

    def add(self, pid: int, argv: Sequence[str]) -> None:
        """A process that is gone already needs no entry."""
        with contextlib.suppress(psutil.Error):
            self._children[pid] = identify(pid, argv)
            self._write()

    def remove(self, pid: int) -> None:
        if self._children.pop(pid, None):
            self._write()

    def close(self) -> None:
        """Remove it, unless a child could not be ended: the next gateway shall know of that one."""
        if not self._children:
            shutil.rmtree(self.path, ignore_errors=True)

    def _hold(self) -> None:
        """A cleaner of temporary files may have taken it: engines that ran are beyond reach then, new ones are not."""
        if not self.path.is_dir():
            _claim(self._base)
            self.path.mkdir(mode=0o700)

    def _write(self) -> None:
        self._hold()
        state = {
            "gateway": asdict(identify(os.getpid(), psutil.Process().cmdline())),
            "children": [asdict(child) for child in self._children.values()],
        }
        draft = self.path / f"{STATE_FILE}.new"
        draft.write_text(json.dumps(state))
        draft.replace(self.path / STATE_FILE)


def reap(base: Path | None = None) -> list[int]:
    """End the engines of gateways that are gone, and remove their directories; returns the process ids ended.

    Raises PermissionError where somebody else could have written what stands in the directories.
    """
    base = base or default_base()
    if not base.exists():
        return []
    check_ours(base)
    ended = []
    for directory in base.glob("gw-*"):
        if state := _read(directory):
            ended += [] if state.gateway.process() else _clear(directory, state)
        elif _forsaken(directory):
            shutil.rmtree(directory, ignore_errors=True)
    return ended


def watch(directory: Path) -> subprocess.Popen[bytes]:
    """Start the watchdog of one run directory. It lives until its standard input, held by us, is closed."""
    return subprocess.Popen(
        (sys.executable, "-m", __name__, str(directory)), stdin=subprocess.PIPE, start_new_session=True
    )


def default_base() -> Path:
    """Where run directories lie: the user's runtime directory, or else the temporary one, under the user's id."""
    runtime = os.environ.get("RUNTIME_DIRECTORY") or os.environ.get("XDG_RUNTIME_DIR")
    if runtime and len(os.fsencode(runtime)) < _LONGEST_BASE and os.access(runtime, os.W_OK):
        return Path(runtime) / "llamaproxy"
    return Path(tempfile.gettempdir()) / f"llamaproxy-{os.getuid()}"


def _make(base: Path) -> Path:
    """A new directory that is ours alone. Raises OSError, also where somebody else got to the base first."""
    _claim(base)
    return Path(tempfile.mkdtemp(prefix="gw-", dir=base))


def _claim(base: Path) -> None:
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_ours(base)
    base.chmod(0o700)


def check_ours(base: Path) -> None:
    """Raises PermissionError where somebody else could put something there, OSError where nothing is there."""
    status = base.lstat()
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
        raise PermissionError(f"{base} is not a directory of this user's own")


def _read(directory: Path) -> _State | None:
    """What a gateway wrote down; None where it did not come to that, or where it cannot be understood."""
    try:
        state = json.loads((directory / STATE_FILE).read_bytes())
        return _State(_identity(state["gateway"]), [_identity(child) for child in state["children"]])
    except (OSError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        return None


def _identity(state: dict[str, Any]) -> Identity:
    return Identity(int(state["pid"]), float(state["started"]), tuple(map(str, state["arguments"])))


def _forsaken(directory: Path) -> bool:
    """Whether a directory without a readable list has been left alone for long, and no engine of it answers.

    A gateway that has only begun has written no list yet.
    """
    try:
        untouched = time.time() - directory.stat().st_mtime
        return untouched > _FORSAKEN_AFTER and not any(map(_answers, directory.glob("*.sock")))
    except OSError:
        return False


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_END_TIMEOUT)
        return client.connect_ex(str(path)) not in (errno.ECONNREFUSED, errno.ENOENT, errno.ENOTSOCK)


def _clear(directory: Path, state: _State) -> list[int]:
    ended = [pid for child in state.children for pid in _end(child)]
    shutil.rmtree(directory, ignore_errors=True)
    return ended


def _end(child: Identity) -> list[int]:
    process = child.process()
    if process is None:
        return []
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    _await_end(process)
    return [child.pid]


def _await_end(process: psutil.Process) -> None:
    """A zombie has ended: whoever should reap it may take long, or never do it."""
    latest = time.monotonic() + _END_TIMEOUT
    with contextlib.suppress(psutil.Error):
        while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < latest:
            time.sleep(0.01)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    # A gateway's files are closed before it is gone: whether it still runs is not the question here.
    if left := _read(directory := Path(sys.argv[1])):
        _clear(directory, left)
