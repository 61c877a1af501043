"""What engines print, in files that rotate: one for each model, beside its predecessors.

Owns a thread, because disks can be slow and the event loop may not be, and the bounds: of what waits for the thread, of
one file, of the files of one model, and of the models that have files, where the one that was silent for longest goes.
A disk that fails costs lines, which are counted, and nothing else.
"""

import contextlib
import hashlib
import logging
import os
import queue
import re
import threading
import time
from collections import OrderedDict
from pathlib import Path

from llamaproxy.telemetry.logline import Redact, escape

log = logging.getLogger(__name__)

FILE_BYTES = 10 * 1024**2
FILES = 5
"""Of one model, the current one among them."""
MODELS = 64
MOST_WAITING = 20_000
"""Lines; with 4 KiB each, 80 MB at worst."""
_MOST_OPEN = 16
_SUFFIX = ".engine.log"
"""Tells our files from those of others, of which none is ever deleted."""
_UNSAFE = re.compile(r"[^a-z0-9._-]")
_IDLE = 1.0
"""Seconds without a line, after which files are closed."""
_LAST_PATIENCE = 5.0
"""Seconds for what waits at the end."""

_Line = tuple[str, float, str]


def file_name(model: str) -> str:
    """Of the file of a model: no two models have the same, also where a file system does not tell case."""
    plain = _UNSAFE.sub("_", model.lower())[:100]
    mark = "" if plain == model else f"-{hashlib.sha256(model.encode()).hexdigest()[:12]}"
    return f"{plain}{mark}{_SUFFIX}"


class LogFiles:
    """Lines from any thread, to files in `directory`. `dropped` counts lines that did not get there."""

    def __init__(self, directory: Path, redact: Redact, file_bytes: int = FILE_BYTES, most: int = MOST_WAITING) -> None:
        self.directory = directory
        self.dropped = 0
        self._redact = redact
        self._file_bytes = file_bytes
        self._waiting: queue.Queue[_Line | None] = queue.Queue(most)
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="log-files", daemon=True)
        self._thread.start()

    def path(self, model: str) -> Path:
        return self.directory / file_name(model)

    def put(self, model: str, at: float, line: str) -> None:
        """Never waits. `at` in seconds since the epoch."""
        try:
            self._waiting.put_nowait((model, at, line))
        except queue.Full:
            self.dropped += 1

    def close(self, patience: float = _LAST_PATIENCE) -> None:
        """Write what waits, within so many seconds. Blocks."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=patience)
        self._thread.join(patience)

    def _run(self) -> None:
        while (line := self._next()) is not None:
            try:
                self._write(*line)
                self._failed = False
            except OSError as error:
                self._lose(line[0], error)
        self._close_all()

    def _next(self) -> _Line | None:
        """Nothing at the end. While nobody prints, no file is held open."""
        if self._files:
            try:
                return self._waiting.get(timeout=_IDLE)
            except queue.Empty:
                self._close_all()
        return self._waiting.get()

    def _close_all(self) -> None:
        while self._files:
            self._files.popitem()[1].close()

    def _write(self, model: str, at: float, line: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
        data = f"{stamp}.{int(at % 1 * 1000):03d}Z {escape(self._redact(line))}\n".encode()
        file = self._files.get(model) or self._open(model)
        if file.size and file.size + len(data) > self._file_bytes:
            self._files.pop(model).close()
            _rotate(self.path(model))
            file = self._open(model)
        self._files.move_to_end(model)
        file.write(data)

    def _open(self, model: str) -> "_File":
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._files[model] = _File(self.path(model))
        if len(self._files) > _MOST_OPEN:
            self._files.popitem(last=False)[1].close()
        _prune(self.directory)
        return file

    def _lose(self, model: str, error: OSError) -> None:
        """The file is opened anew for the next line; what is wrong is told once in a row."""
        self.dropped += 1
        if file := self._files.pop(model, None):
            file.close()
        if not self._failed:
            log.warning("%s: what engines print cannot be written: %s", self.directory, error.strerror or error)
        self._failed = True


class _File:
    """One that is open to be appended to, for nobody but this user, and is no link to another."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
        self._fd = os.open(path, flags, 0o600)
        status = os.fstat(self._fd)
        if hasattr(os, "fchmod") and status.st_mode & 0o077:
            os.fchmod(self._fd, 0o600)
        self.size = status.st_size

    def write(self, data: bytes) -> None:
        written = os.write(self._fd, data)
        self.size += written
        if written < len(data):
            raise OSError(f"{written} of {len(data)} bytes were written")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fd)


def _rotate(path: Path) -> None:
    """The current file becomes the first of the old ones, the last of those is gone."""
    for number in range(FILES - 1, 0, -1):
        younger = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
        with contextlib.suppress(FileNotFoundError):
            younger.replace(path.with_name(f"{path.name}.{number}"))


def _prune(directory: Path) -> None:
    """Models that are no more leave their files, and nobody else would ever delete them."""
    used: dict[str, float] = {}
    for path in directory.glob(f"*{_SUFFIX}*"):
        model, _, mark = path.name.rpartition(_SUFFIX)
        if not mark or mark[1:].isdecimal():
            used[model] = max(used.get(model, 0.0), path.stat().st_mtime)
    for model in sorted(used, key=lambda model: used[model])[:-MODELS]:
        for number in range(FILES):
            directory.joinpath(f"{model}{_SUFFIX}{f'.{number}' if number else ''}").unlink(missing_ok=True)
