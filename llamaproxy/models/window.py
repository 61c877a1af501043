"""Reading a binary file forward through a bounded window, without believing any length that stands in it.

Owns the bounds and the file descriptor. Must not know what the bytes mean, beyond little-endian numbers and texts
that begin with their length.
"""

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")
_CHUNK = 1024**2


class Fault(Exception):
    """Says what is wrong with the file."""


class Reader:
    """Goes forward only, and no further than `most` bytes.

    Not a mapping: one of a file that shrinks, as a download started anew does, kills the process that looks at it.
    """

    def __init__(self, descriptor: int, size: int, most: int) -> None:
        self.size = size
        self._descriptor = descriptor
        self._end = min(size, most)
        self._window = b""
        self._base = 0
        self._at = 0

    @property
    def position(self) -> int:
        return self._base + self._at

    def take(self, count: int) -> bytes:
        self._need(count)
        self._at += count
        return self._window[self._at - count : self._at]

    def number(self, layout: struct.Struct) -> int | float:
        self._need(layout.size)
        self._at += layout.size
        value: int | float = layout.unpack_from(self._window, self._at - layout.size)[0]
        return value

    def u32(self) -> int:
        return int(self.number(U32))

    def u64(self) -> int:
        return int(self.number(U64))

    def text(self, most: int) -> str:
        """The first `most` bytes of a text; the rest is skipped."""
        length = self.u64()
        kept = self.take(min(length, most))
        self.skip(length - len(kept))
        return kept.decode("utf-8", "replace")

    def skip(self, count: int) -> None:
        self._check(count)
        self._at += count

    def skip_texts(self, count: int) -> None:
        self._check(8 * count)
        while count:
            self._need(8)
            count -= self._skip_texts_in_window(count)

    def _skip_texts_in_window(self, most: int) -> int:
        """A vocabulary has hundreds of thousands of texts: no object is made for any of them."""
        window, at, length = self._window, self._at, U64.unpack_from
        done = 0
        try:
            for done in range(1, most + 1):  # noqa: B007 - it counts, and is what is returned
                at += 8 + length(window, at)[0]
        except (struct.error, OverflowError):  # the window ends, or the last length went far beyond it
            done -= 1
        self.skip(at - self._at)
        return done

    def _need(self, count: int) -> None:
        """Has the next `count` bytes in the window."""
        if self._at + count <= len(self._window):
            return
        self._check(count)
        self._base, self._at = self.position, 0
        wanted = min(max(count, _CHUNK), self._end - self._base)
        self._window = os.pread(self._descriptor, wanted, self._base)
        if len(self._window) < count:
            raise Fault("it became shorter while it was read")

    def _check(self, count: int) -> None:
        if self.position + count > self._end:
            raise Fault("it ends too early" if self._end == self.size else f"more than {self._end} bytes would be read")


@contextmanager
def opened(path: Path, most: int) -> Iterator[Reader]:
    """A reader of a regular file. Raises OSError or Fault."""
    # Without O_NONBLOCK, opening a named pipe waits for somebody who writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Fault("it is not a regular file")
        yield Reader(descriptor, status.st_size, most)
    finally:
        os.close(descriptor)
