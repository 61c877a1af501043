"""What waits to be sent to one page.

Pure. Owns the bounds: a page that does not keep up loses whole messages, which it notices by the numbers that are
missing, and costs no more memory than this.
"""

from collections import deque

MOST_FRAMES = 64
MOST_BYTES = 1024**2


class Outbox:
    """Frames in the order in which they were put; `dropped` counts those that found no room."""

    def __init__(self, most_frames: int = MOST_FRAMES, most_bytes: int = MOST_BYTES) -> None:
        self._bounds = most_frames, most_bytes
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self.dropped = 0

    def offer(self, frame: bytes) -> bool:
        """Whether there is room for it. One that is alone always finds some, however large it is."""
        frames, size = self._bounds
        if self._frames and (len(self._frames) >= frames or self._bytes + len(frame) > size):
            self.dropped += 1
            return False
        self.owe(frame)
        return True

    def owe(self, frame: bytes) -> None:
        """One that must not be lost: whoever puts it waits until it was sent before there is another."""
        self._frames.append(frame)
        self._bytes += len(frame)

    def take(self) -> bytes | None:
        """The oldest; None where nothing waits."""
        if not self._frames:
            return None
        frame = self._frames.popleft()
        self._bytes -= len(frame)
        return frame

    def __len__(self) -> int:
        return len(self._frames)
