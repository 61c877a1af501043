"""The embedded engine: llama.cpp's own server out of the wheel `xllamacpp`, behind llama-server's command line.

Owns the life of this one process: it is a program of its own (`python -m llamaproxy.backends.embedded`), started
wherever a `llama-server` would be. It must not import anything of llamaproxy but its flags (its start-up time is part
of every model swap), nor answer a request itself.
"""

import argparse
import ctypes
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from llamaproxy.backends.embedded_flags import PROGRAM, parse, to_params

INSTALL: Final = 'the engine is not installed; install it with: pip install "llamaproxy[embedded]"'
PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies: an engine may not outlive its gateway. Linux only."""
    if sys.platform == "linux":
        parent = os.getppid()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL)) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        # No signal comes for a parent that died before the call. The sign of that is a number that has changed, not
        # the number 1: in a container the gateway itself may be process 1.
        if os.getppid() != parent:
            sys.exit(f"{PROGRAM}: the parent process is gone")


def import_engine() -> Any:
    try:
        return importlib.import_module("xllamacpp")
    except ModuleNotFoundError as error:
        if error.name != "xllamacpp":
            raise
        sys.exit(f"{PROGRAM}: {INSTALL}")


def version() -> str:
    return f"xllamacpp {import_engine().__version__}"


def require_files(options: argparse.Namespace) -> None:
    for parameter in ("model.path", "mmproj.path"):
        path = vars(options).get(parameter)
        if path is not None and not Path(path).is_file():
            sys.exit(f"{PROGRAM}: model file not found: {path}")


def wait_for_stop_signal(announcement: str) -> None:
    """Block until SIGTERM or SIGINT. Not with `signal.pause`: that misses a signal that comes just before the call."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    print(announcement, file=sys.stderr, flush=True)
    os.read(read_end, 1)


def main(argv: Sequence[str]) -> int:
    """Serve until a signal. Exit status: 0 after it, 1 when there is nothing to serve, 2 for a bad flag."""
    # The engine holds the interpreter while it loads, so no Python handler could run: the kernel's default ends us.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    options = parse(argv, os.environ, version)
    require_files(options)
    engine = import_engine()
    try:
        server = engine.Server(to_params(options, engine))
    except RuntimeError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    wait_for_stop_signal(f"{PROGRAM}: ready on {server.listening_address}")
    # Without the engine's destructor, which waits for clients that have not hung up: up to 30 s in a stream, else for
    # ever. The gateway has closed its connections and saved what it wants to keep before it sends the signal.
    os._exit(0)


if __name__ == "__main__":
    die_with_parent()
    sys.exit(main(sys.argv[1:]))
