"""The command line: one module per verb, imported only when its verb is used.

Owns the exit codes and the way from words to a verb; `verbs` has the words. stdout is data, stderr is talk.
"""

import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llamaproxy.cli.table import harmless
from llamaproxy.cli.verbs import parser as parser

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3
"""No gateway answers."""
EXIT_NOT_FOUND = 4
EXIT_CONFLICT = 5
EXIT_DENIED = 6
EXIT_TIMEOUT = 7
EXIT_CONFIGURATION = 78
"""As in sysexits.h, EX_CONFIG."""
EXIT_INTERRUPTED = 130

EXIT_CODES = {
    0: "done",
    EXIT_FAILED: "failed; stderr says why",
    EXIT_USAGE: "wrong words",
    EXIT_UNAVAILABLE: "no gateway answers",
    EXIT_NOT_FOUND: "there is no such model, key or service",
    EXIT_CONFLICT: "there is one already",
    EXIT_DENIED: "a key is needed, or another one",
    EXIT_TIMEOUT: "no answer in time",
    EXIT_CONFIGURATION: "the configuration is no good",
    EXIT_INTERRUPTED: "interrupted",
    143: "terminated",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return one of EXIT_CODES."""
    _prepare_streams()
    with _silent_interruption():
        arguments = parser().parse_args(argv)
        module = getattr(arguments, "module", arguments.verb.replace("-", "_"))
        verb = importlib.import_module(f"llamaproxy.cli.{module}")
    try:
        code: int = verb.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            complain(f"{error.filename or 'cannot write'}: {error.strerror or error}")
        _leave_stdout()
        return EXIT_FAILED
    return code


def _prepare_streams() -> None:
    """One that is closed takes everything, and what one has no letters for is spelled out."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115, it stays open to the end
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream)


@contextmanager
def _silent_interruption() -> Iterator[None]:
    """Until a verb runs there is nothing to tidy up, and importing takes as long as a second: libraries that are
    interrupted half way show tracebacks, and some of them crash. Who is told to ignore it goes on doing so."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leave_stdout() -> None:
    """Where nobody reads it any more, or it takes no more: Python would complain once more when it flushes at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(message: str) -> None:
    """One line for each fault, on stderr; a terminal obeys nothing of it."""
    for line in message.splitlines():
        print(f"llamaproxy: {harmless(line)}", file=sys.stderr)
