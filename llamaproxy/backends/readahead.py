"""Reading a model's file before its engine does.

While a victim drains or stops, the disk has nothing to do and the next engine cannot be started yet: what is in the
page cache by then is loaded at the speed of memory. Owns one reader at a time. A hint only: nothing waits for it, and
nothing fails with it.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil

from llamaproxy.tasks import spawn

log = logging.getLogger(__name__)

CHUNK = 8 * 1024**2
"""Bytes asked for at once, and so the longest way to a cancellation."""


class ReadAhead:
    """Asks the kernel for the files of whoever comes next; a new wish ends the one before."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._wished: tuple[Path, ...] = ()

    def expect(self, files: Sequence[Path]) -> None:
        """Somebody will soon load these."""
        if self._wished == tuple(files):
            return
        self.cancel()
        self._wished, self._cancelled = tuple(files), threading.Event()
        spawn(asyncio.to_thread(read_ahead, self._wished, self._cancelled), name="read-ahead")

    def cancel(self) -> None:
        self._cancelled.set()
        self._wished = ()


def read_ahead(files: Sequence[Path], cancelled: threading.Event) -> int:
    """Ask for the files, as far as half of the memory that is free goes; returns the bytes asked for."""
    left = psutil.virtual_memory().available // 2
    done = 0
    for path in files:
        try:
            done += _ask(path, left - done, cancelled)
        except OSError as error:
            log.debug("%s cannot be read ahead: %s", path, error.strerror)
    return done


def _ask(path: Path, most: int, cancelled: threading.Event) -> int:
    """Reads where the kernel knows no such hint; it reads into nothing but its own cache where it does."""
    offset = 0
    with path.open("rb", buffering=0) as file:
        size = min(most, os.fstat(file.fileno()).st_size)
        while offset < size and not cancelled.is_set():
            length = min(CHUNK, size - offset)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), offset, length, os.POSIX_FADV_WILLNEED)
            else:
                file.read(length)
            offset += length
    return offset
