"""Requests and tokens of the last minute, by name: of a model, or of a key.

Pure: the time is passed in. Owns what is shown as rates. It limits nobody, and counts in whole seconds: what happened
is forgotten between 59 and 60 s later.
"""

from dataclasses import dataclass

WINDOW = 60
"""Seconds, and as many counts."""
_ROOM = 64
"""Names that are kept before it is looked for such as have been silent for a minute."""


class Window:
    """A sum over the last minute, in memory that does not grow. Time that goes back is taken for no time."""

    __slots__ = ("_counts", "_second", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * WINDOW
        self._second = 0
        self._sum = 0

    def add(self, amount: int, now: float) -> None:
        """`amount` may be negative, where more was counted before than there was."""
        self._advance(int(now))
        self._counts[self._second % WINDOW] += amount
        self._sum += amount

    def rate(self, now: float) -> int:
        """So many in the minute before `now`, in seconds of any clock that does not go back; never less than 0."""
        self._advance(int(now))
        return max(0, self._sum)

    def _advance(self, second: int) -> None:
        """Forget the seconds that are a minute old: each once, however long nobody asked."""
        if second <= self._second:
            return
        if second - self._second >= WINDOW:
            self._counts = [0] * WINDOW
            self._sum = 0
        else:
            for passed in range(self._second + 1, second + 1):
                self._sum -= self._counts[passed % WINDOW]
                self._counts[passed % WINDOW] = 0
        self._second = second


@dataclass(frozen=True, slots=True)
class Rate:
    """Of the last minute."""

    requests: int = 0
    tokens: int = 0


class Rates:
    """The windows of many names. Who is silent for a minute is forgotten, before there are twice as many as needed."""

    def __init__(self) -> None:
        self._windows: dict[str, tuple[Window, Window]] = {}
        self._room = _ROOM

    def __len__(self) -> int:
        """Names that are kept."""
        return len(self._windows)

    def add(self, name: str, now: float, requests: int = 0, tokens: int = 0) -> None:
        """Count for a name; `tokens` may be negative, to settle what was reckoned with before."""
        windows = self._windows.get(name)
        if windows is None:
            if len(self._windows) >= self._room:
                self._tidy(now)
            windows = self._windows[name] = Window(), Window()
        of_requests, of_tokens = windows
        of_requests.add(requests, now)
        of_tokens.add(tokens, now)

    def of(self, name: str, now: float) -> Rate:
        windows = self._windows.get(name)
        return Rate(windows[0].rate(now), windows[1].rate(now)) if windows else Rate()

    def all(self, now: float) -> dict[str, Rate]:
        """Of every name with anything in the last minute."""
        rates = {name: self.of(name, now) for name in self._windows}
        return {name: rate for name, rate in rates.items() if rate != Rate()}

    def _tidy(self, now: float) -> None:
        busy = self.all(now)
        self._windows = {name: windows for name, windows in self._windows.items() if name in busy}
        self._room = max(_ROOM, 2 * len(self._windows))
