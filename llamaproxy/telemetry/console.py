"""The process's log on stderr, when nobody may be reading it.

Owns a thread, because writing to a pipe that is full waits until somebody reads, and the event loop may not; and a
bounded queue in front of it. What finds no room is dropped and counted, and said as soon as somebody reads again. Owns
no line's spelling: the formatter does.
"""

import contextlib
import logging
import os
import queue
import threading
import time

MOST_WAITING = 10_000
"""Lines: some 2 MB."""
_LAST_PATIENCE = 1.0
"""Seconds at the end for what waits: nobody may be reading."""
_PAUSE = 0.05
"""Seconds, where the other side has made the descriptor one that does not wait."""


class ConsoleHandler(logging.Handler):
    """Writes to a descriptor from a thread of its own. `dropped` counts lines that did not get there."""

    def __init__(self, descriptor: int = 2, most: int = MOST_WAITING) -> None:
        super().__init__()
        self.dropped = 0
        self._told = 0
        self._descriptor = descriptor
        self._waiting: queue.Queue[str | None] = queue.Queue(most)
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits. The line is made here, where its request and model are known."""
        try:
            self._waiting.put_nowait(self.format(record))
        except queue.Full:
            self.dropped += 1
        except Exception:  # as `logging.Handler` asks: a line that cannot be written fails no one
            self.handleError(record)

    def close(self) -> None:
        """Write what waits, for a moment; `logging` calls it at the end of the process, too."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=_LAST_PATIENCE if self._thread.is_alive() else 0)
        self._thread.join(_LAST_PATIENCE)
        super().close()

    def _run(self) -> None:
        while (line := self._waiting.get()) is not None:
            try:
                self._write(f"{line}\n{self._lost()}")
            except OSError:  # Nobody is left to be told.
                self.dropped += 1

    def _lost(self) -> str:
        """What is to be said of lines that were dropped since the last time."""
        lost, self._told = self.dropped - self._told, self.dropped
        return f"llamaproxy: {lost} lines of the log were lost here: nobody read them\n" if lost else ""

    def _write(self, text: str) -> None:
        """Not with `sys.stderr`: the interpreter could not end while a thread waits in it."""
        data = text.encode("utf-8", "backslashreplace")
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                time.sleep(_PAUSE)


def dropped() -> int:
    """Lines that this process's consoles have lost."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, ConsoleHandler))
