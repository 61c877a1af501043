"""One circuit breaker per backend: CLOSED, OPEN, HALF_OPEN.

Decides whether a request may try at all. Knows nothing of processes or queues, and has no clock: `now` is
passed in. Failed starts and failed requests are counted apart, because a start proves nothing about requests.
"""

from enum import StrEnum

from llamaproxy.config import BreakerConfig


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Opens after `start_failures` failed starts or `request_failures` failed requests in a row.

    It stays open for `open` seconds, doubled each time a probe fails, up to `open_max`. A probe that has
    brought no verdict `open_max` seconds after its grant counts as failed. `half_open`: a probe is on its way.
    """

    def __init__(self, config: BreakerConfig) -> None:
        self.config = config
        self.reason = ""
        self.reset()

    def reset(self) -> None:
        self._start_failures = 0
        self._request_failures = 0
        self._open_for = 0.0
        self._open_until: float | None = None
        self.half_open = False
        self._probe: str | None = None
        self._probe_until: float | None = None
        self._proven = False

    @property
    def closed(self) -> bool:
        return self._open_until is None

    def state(self, now: float) -> BreakerState:
        if self._open_until is None:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self.half_open or now >= self._open_until else BreakerState.OPEN

    def admits(self, request: str, now: float) -> bool:
        """Whether `request` may try; in HALF_OPEN the first one asked becomes the probe."""
        if self._open_until is None or self._proven:
            return True
        if self._probe_until is not None and now >= self._probe_until:
            self._open(now)
        if self.state(now) is BreakerState.OPEN:
            return False
        self.half_open = True
        if self._probe is None:
            self._probe = request
        return self._probe == request

    def probe_begun(self, request: str, now: float) -> None:
        """The request was granted; while it waited for that, the backend had no chance to prove itself."""
        if self._probe == request:
            self._probe_until = now + self.config.open_max

    def retry_after(self, now: float) -> float:
        """Seconds until it is worth asking again, at least one."""
        return max(1.0, (self._open_until or now) - now)

    def start_failed(self, now: float, reason: str) -> None:
        self._start_failures += 1
        self._failed(now, reason, self._start_failures >= self.config.start_failures)

    def request_failed(self, now: float, reason: str) -> None:
        self._request_failures += 1
        self._failed(now, reason, self._request_failures >= self.config.request_failures)

    def started(self) -> None:
        self._start_failures = 0

    def answered(self) -> None:
        """The probe's answer has begun: others may come, and only its end decides."""
        self._proven = self.half_open

    def succeeded(self) -> None:
        """A good answer closes it; one that began before it opened proves nothing new."""
        if self._open_until is None:
            self._start_failures = self._request_failures = 0
        elif self.half_open:
            self.reset()

    def probe_left(self, request: str) -> None:
        """The probe ended without a verdict: the next request may be one."""
        if self._probe == request:
            self._probe = self._probe_until = None

    def _failed(self, now: float, reason: str, enough: bool) -> None:
        if self._shut:
            return
        self.reason = reason
        if enough or self.half_open:
            self._open(now)

    @property
    def _shut(self) -> bool:
        return self._open_until is not None and not self.half_open

    def _open(self, now: float) -> None:
        self._open_for = min(self.config.open_max, self._open_for * 2 or self.config.open)
        self._open_until = now + self._open_for
        self.half_open = self._proven = False
        self._probe = self._probe_until = None
