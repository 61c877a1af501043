"""What a key may take: requests and tokens a minute, and requests at once.

Pure: the time is passed in, in seconds of a clock that does not go back. Owns the law that many requests at once take
no more than one after the other. A request holds all the tokens that it may take from its admission to its end, and
what it took then counts for a minute: so in no minute more tokens are taken than the limit, unless a request takes
more than it said. Who did so waits longer, until the average is right again.
"""

import math
from bisect import insort
from dataclasses import dataclass

from llamaproxy.errors import RateLimitExceeded, RequestOverLimit

WINDOW = 60.0
"""Seconds in which limits are meant."""
LONGEST = 3600.0
"""Seconds for which anything counts at most, however much too much it was."""
EXACT = 256
"""Ends that are kept as they are."""
GRAIN = 1 / 16
"""Seconds to which further ones are rounded up: so many places a minute are kept, whatever the number of requests."""
_SOON = 5.0
"""Seconds: a guess where only the end of a request can make room, of which nobody knows the time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """None is no limit."""

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None

    def __bool__(self) -> bool:
        """Whether there is any."""
        return (self.rpm, self.tpm, self.concurrency) != (None, None, None)


@dataclass(frozen=True, slots=True)
class Want:
    """What one request may take, in tokens.

    `stated`: the client said how long the answer may be. A guess gives way to a limit. `place`: it counts as one of
    the requests at once.
    """

    prompt: int = 0
    completion: int = 0
    stated: bool = True
    place: bool = True

    def within(self, tpm: int) -> "Want":
        """With a guess that can fit, if the prompt does."""
        if self.stated:
            return self
        return Want(self.prompt, min(self.completion, max(0, tpm - self.prompt)), True, self.place)

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion


class Window:
    """What was taken, and when each part of it stops to count."""

    __slots__ = ("_ends", "_sum")

    def __init__(self) -> None:
        self._ends: list[tuple[float, int]] = []
        self._sum = 0

    def add(self, amount: int, now: float, limit: int | None = None) -> None:
        """It counts for a minute; what is `limit` and more already, so much longer that the average keeps to it."""
        if amount <= 0:
            return
        total = self.used(now) + amount
        life = min(LONGEST, WINDOW * max(1.0, total / limit)) if limit else WINDOW
        end = now + life
        if len(self._ends) >= EXACT:
            end = math.ceil(end / GRAIN) * GRAIN
        self._sum = total
        if self._ends and self._ends[-1][0] == end:
            self._ends[-1] = (end, self._ends[-1][1] + amount)
        else:
            insort(self._ends, (end, amount))

    def used(self, now: float) -> int:
        """What still counts."""
        passed = 0
        for end, amount in self._ends:
            if end > now:
                break
            self._sum -= amount
            passed += 1
        del self._ends[:passed]
        return self._sum

    def until_less(self, amount: int, now: float) -> float | None:
        """Seconds until so much of it no longer counts; None where there is not so much."""
        self.used(now)
        for end, part in self._ends:
            amount -= part
            if amount <= 0:
                return end - now
        return None

    def until_empty(self, now: float) -> float:
        """Seconds until nothing of it counts."""
        return self._ends[-1][0] - now if self.used(now) else 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one limit: `reset` in seconds, after which all of it is there again if nothing more is taken."""

    limit: int
    remaining: int
    reset: float


class Allowance:
    """What one key has taken. Limits are passed in, because a reload may change them meanwhile."""

    def __init__(self) -> None:
        self._requests = Window()
        self._tokens = Window()
        self._held = 0
        self._running = 0

    def admit(self, limits: Limits, want: Want, now: float) -> Want:
        """Count a request in and hold its tokens; returns what is held, for `settle`.

        Raises RateLimitExceeded, with the seconds after which to ask again, or RequestOverLimit where there can be no
        such time. Who is refused has taken nothing.
        """
        if limits.tpm is not None:
            want = want.within(limits.tpm)
        refusals = self._refusals(limits, want, now)
        if refusals:
            raise max(refusals, key=lambda refusal: refusal.retry_after or math.inf)
        self._requests.add(1, now)
        self._held += want.tokens
        self._running += want.place
        return want

    def settle(self, held: Want, prompt: int | None, completion: int | None, limits: Limits, now: float) -> None:
        """A request has ended, once for each, with what it took; None is not known, and taken for what was held."""
        self._held -= held.tokens
        self._running -= held.place
        taken = (held.prompt if prompt is None else prompt) + (held.completion if completion is None else completion)
        self._tokens.add(taken, now, limits.tpm)

    def requests(self, limits: Limits, now: float) -> Standing | None:
        if limits.rpm is None:
            return None
        remaining = max(0, limits.rpm - self._requests.used(now))
        return Standing(limits.rpm, remaining, self._requests.until_empty(now))

    def tokens(self, limits: Limits, now: float) -> Standing | None:
        """What requests in flight hold is taken, for a minute at least."""
        if limits.tpm is None:
            return None
        remaining = max(0, limits.tpm - self._tokens.used(now) - self._held)
        reset = self._tokens.until_empty(now)
        return Standing(limits.tpm, remaining, max(reset, WINDOW) if self._held else reset)

    def idle(self, now: float) -> bool:
        """Whether a new one would know as much."""
        return not (self._running or self._held or self._requests.used(now) or self._tokens.used(now))

    def _refusals(self, limits: Limits, want: Want, now: float) -> list[RateLimitExceeded]:
        refusals = [
            self._too_many_at_once(limits, want),
            self._too_many(limits, now),
            self._too_much(limits, want, now),
        ]
        return [refusal for refusal in refusals if refusal]

    def _too_many_at_once(self, limits: Limits, want: Want) -> RateLimitExceeded | None:
        if limits.concurrency is None or not want.place or self._running < limits.concurrency:
            return None
        return RateLimitExceeded(
            f"the key has {self._running} requests in flight, and may have {limits.concurrency} at once",
            retry_after=_SOON,
        )

    def _too_many(self, limits: Limits, now: float) -> RateLimitExceeded | None:
        if limits.rpm is None or (excess := self._requests.used(now) + 1 - limits.rpm) <= 0:
            return None
        wait = self._requests.until_less(excess, now)
        return RateLimitExceeded(f"the key may send {limits.rpm} requests a minute", retry_after=wait)

    def _too_much(self, limits: Limits, want: Want, now: float) -> RateLimitExceeded | None:
        """What takes no tokens (listing, counting) does not wait for any."""
        if limits.tpm is None or not want.tokens:
            return None
        needs = f"{want.tokens} tokens ({want.prompt} of the prompt, {want.completion} of the answer)"
        if want.tokens > limits.tpm:
            return RequestOverLimit(
                f"the request may take {needs}, more than the {limits.tpm} a minute of the key: it can never be "
                "admitted; shorten it, or lower max_tokens"
            )
        used = self._tokens.used(now)
        if (excess := used + self._held + want.tokens - limits.tpm) <= 0:
            return None
        wait = self._tokens.until_less(excess, now)
        return RateLimitExceeded(
            f"the request may take {needs}; of {limits.tpm} a minute the key has used {used}, and its requests in "
            f"flight hold {self._held}",
            retry_after=_SOON if wait is None else wait,
        )
