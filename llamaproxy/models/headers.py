"""GGUF headers of model files, each read once for every version of its file.

Owns the cache. Reading takes some milliseconds, so it is done ahead, in a thread, wherever there is time for it.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from llamaproxy.errors import InvalidModelFile
from llamaproxy.models.gguf import GgufInfo, read

log = logging.getLogger(__name__)

Version = tuple[int, int]
"""Size in bytes, and time of change in nanoseconds."""


class Headers:
    """Asked from the event loop, filled from there or from a thread: each entry is put there whole."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[Version, GgufInfo]] = {}

    def get(self, path: Path) -> GgufInfo:
        """Read it where that was not done. Raises OSError or InvalidModelFile."""
        status = path.stat()
        version = status.st_size, status.st_mtime_ns
        known = self._known.get(path)
        if known is None or known[0] != version:
            known = self._known[path] = (version, read(path))
        return known[1]

    def peek(self, path: Path) -> GgufInfo | None:
        """What is known of it without looking, which may be of an earlier version."""
        known = self._known.get(path)
        return known[1] if known else None

    def known(self, path: Path) -> GgufInfo:
        """The same. Raises InvalidModelFile where nothing is known."""
        if (info := self.peek(path)) is None:
            raise InvalidModelFile(f"{path}: not read yet")
        return info

    def read_ahead(self, paths: Iterable[Path]) -> None:
        """Blocks on the disk: call it in a thread. What cannot be read will be told to whoever needs it."""
        for path in paths:
            try:
                self.get(path)
            except (OSError, InvalidModelFile) as error:
                log.debug("%s: %s", path, error)

    def keep(self, paths: Iterable[Path]) -> None:
        """Forget all others."""
        wanted = set(paths)
        self._known = {path: known for path, known in self._known.items() if path in wanted}
