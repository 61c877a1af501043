"""What an engine process prints: raw blocks in, a bounded ring of lines out.

An engine whose pipe is not read stands still, so `feed` accepts anything at any size and costs time only for what is
kept. It must not wait, and must not grow.
"""

import re
from collections import deque
from collections.abc import Callable

LINES_KEPT = 2000
LINE_BYTES = 4096
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_ERROR = re.compile(r"(?:^|\s)E\s|error|fail|exception|abort", re.IGNORECASE)


class OutputLog:
    """The last lines of one process; `blocks` counts what came, as a sign of life. `told` hears of every line that is
    kept, and must not wait."""

    def __init__(self) -> None:
        self.told: Callable[[str], object] = lambda line: None
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._partial = b""
        self.blocks = 0

    def feed(self, block: bytes) -> None:
        self.blocks += 1
        head, newline, rest = block.partition(b"\n")
        self._partial += head[: LINE_BYTES - len(self._partial)]
        if not newline:
            return
        self._keep(self._partial)
        *lines, self._partial = rest.rsplit(b"\n", LINES_KEPT + 1)
        for line in lines[-LINES_KEPT:]:
            self._keep(line)
        self._partial = self._partial[:LINE_BYTES]

    def finish(self) -> None:
        """The pipe is closed: an unfinished line is a line."""
        if self._partial:
            self._keep(self._partial)
            self._partial = b""

    def tail(self, count: int) -> list[str]:
        """The last `count` lines, oldest first."""
        return list(self._lines)[max(0, len(self._lines) - count) :]

    def last_error(self) -> str:
        """The last line that looks like an error, else the last line, else nothing."""
        lines = self.tail(50)
        errors = [line for line in lines if _ERROR.search(line)]
        return (errors or lines or [""])[-1]

    def _keep(self, line: bytes) -> None:
        text = line[:LINE_BYTES].decode("utf-8", "replace").rstrip()
        shown = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
        self._lines.append(shown)
        self.told(shown)
