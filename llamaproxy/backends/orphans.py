"""The gateway's own folder at run time, and the engines an earlier gateway left behind.

Owns a 0700 directory for each gateway process, with the sockets of its engines and a list of who runs. A gateway that
was killed leaves its directory; the next one to start finds it, and ends what is still running. A process is ended
only when its id, its start time and its command line are those that were written down.

Where the kernel does not end children with their parent, `watch` runs this module as a small process that notices
the end of its standard input and does the same at once.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil

STATE_FILE = "state.json"
NEEDS_WATCHDOG = sys.platform != "linux"
UNIX_SOCKETS = sys.platform != "win32"
_LONGEST_BASE = 50
"""Bytes: a socket's path may have 104 in all."""
_START_TOLERANCE = 2.0
"""Seconds: a start time is computed from the time of boot, which moves when the clock is set."""


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
        except psutil.Error:
            return None


def identify(pid: int, argv: Sequence[str]) -> Identity:
    """The identity of a running process that was started as `argv`. Raises psutil.NoSuchProcess."""
    return Identity(pid, psutil.Process(pid).create_time(), tuple(argv[1:]))


class RunDirectory:
    """This gateway's directory. Its children are written down before they can be forgotten."""

    def __init__(self, base: Path | None = None) -> None:
        self.path = _make(base or default_base())
        self._children: dict[int, Identity] = {}
        self._write()

    def socket(self, model: str, spawn: int) -> Path:
        """A path that no earlier spawn has used: a stale socket file keeps an engine from starting."""
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
        shutil.rmtree(self.path, ignore_errors=True)

    def _write(self) -> None:
        state = {
            "gateway": asdict(identify(os.getpid(), psutil.Process().cmdline())),
            "children": [asdict(child) for child in self._children.values()],
        }
        draft = self.path / f"{STATE_FILE}.new"
        draft.write_bytes(orjson.dumps(state))
        draft.replace(self.path / STATE_FILE)


def reap(base: Path | None = None) -> list[int]:
    """End the engines of gateways that are gone, and remove their directories; returns the process ids ended."""
    ended = []
    for directory in (base or default_base()).glob("gw-*"):
        state = _read(directory)
        if state is None or _identity(state["gateway"]).process():
            continue
        for child in state["children"]:
            ended += _end(_identity(child))
        shutil.rmtree(directory, ignore_errors=True)
    return ended


def watch(directory: Path) -> subprocess.Popen[bytes]:
    """Start the watchdog of one run directory. It lives until its standard input, held by us, is closed."""
    return subprocess.Popen(
        (sys.executable, "-m", __name__, str(directory.parent)), stdin=subprocess.PIPE, start_new_session=True
    )


def default_base() -> Path:
    """Where run directories lie: below the user's runtime directory, or else in the temporary one under the user's id."""
    runtime = os.environ.get("RUNTIME_DIRECTORY") or os.environ.get("XDG_RUNTIME_DIR")
    if runtime and len(os.fsencode(runtime)) < _LONGEST_BASE and os.access(runtime, os.W_OK):
        return Path(runtime) / "llamaproxy"
    return Path(tempfile.gettempdir()) / f"llamaproxy-{os.getuid()}"


def _make(base: Path) -> Path:
    """A new directory that is ours alone. Raises OSError, also where somebody else got to the base first."""
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = base.lstat()
    if status.st_uid != os.getuid() or not base.is_dir() or base.is_symlink():
        raise PermissionError(f"{base} belongs to somebody else")
    base.chmod(0o700)
    return Path(tempfile.mkdtemp(prefix="gw-", dir=base))


def _read(directory: Path) -> Any:
    try:
        return orjson.loads((directory / STATE_FILE).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None


def _identity(state: dict[str, Any]) -> Identity:
    return Identity(state["pid"], state["started"], tuple(state["arguments"]))


def _end(child: Identity) -> list[int]:
    process = child.process()
    if process is None:
        return []
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(psutil.Error):
        process.wait(timeout=2)
    return [child.pid]


if __name__ == "__main__":
    sys.stdin.buffer.read()
    reap(Path(sys.argv[1]))
