"""What engines tell of themselves: their own metrics, asked for while they are in use, and once their version.

Owns when an engine is asked, and what its counters mean as rates. An engine that rests says nothing new: it is not
asked, so that looking neither wakes one that sleeps nor keeps one awake. Faster than every 2 s would cost: llama-server
notices a client that has left only where nobody asks more often. Must not lease, and must not wait for anybody.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from llamaproxy.tasks import spawn
from llamaproxy.telemetry.exposition import Malformed, Reading, read

PREFIX = "llamacpp:"
INTERVAL = 2.0
"""Seconds, at least, between two questions to one engine."""
LARGEST_PAGE = 256 * 1024
"""Bytes."""
_PATIENCE = 5.0
"""Seconds for an answer: an engine that reads a long prompt answers between its pieces."""
_LONGEST_PAUSE = 60.0
_LONGEST_VERSION = 100
_WITHOUT_METRICS = frozenset({401, 403, 404, 405, 501})
_AVERAGES = frozenset({"prompt_tokens_seconds", "predicted_tokens_seconds"})
"""They are averages since somebody asked last, whoever that was: the counters tell the same better."""
_RATES = {"prompt_tokens_per_second": "prompt_tokens_total", "predicted_tokens_per_second": "tokens_predicted_total"}
_OWN = frozenset({"up", *_RATES})
"""Names that are the gateway's."""

Ask = Callable[[], Awaitable[tuple[int, bytes]]]
"""Status and content of the engine's page. Raises Unasked where there is no answer."""


class Unasked(Exception):
    """No answer; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """One life of one model's engine. `used_at` is when its last lease ended, by the clock of `Engines`.

    `ask` is for its metrics, `ask_props` for llama-server's page of properties.
    """

    model: str
    life: int
    in_use: bool
    used_at: float
    ask: Ask
    ask_props: Ask | None = None


@dataclass(frozen=True, slots=True)
class Engine:
    """What is known of one engine. Where the last question failed `error` says why, and there are no readings.

    `rates` are tokens a second on the wall clock, since the question before.
    """

    at: float
    readings: tuple[Reading, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


class _Watch:
    """One life. `asked_at` and `Engine.at` are by the clock of `Engines`."""

    def __init__(self, life: int) -> None:
        self.life = life
        self.asked_at: float | None = None
        self.answered: float | None = None
        self.period = INTERVAL
        self.failures = 0
        self.mute = False
        self.asking: asyncio.Task[None] | None = None
        self.known: Engine | None = None
        self.asked_version = False
        self.version: str | None = None
        self._counters: dict[str, float] = {}

    def is_due(self, target: Target, now: float) -> bool:
        if self.mute or (self.asking and not self.asking.done()):
            return False
        if self.asked_at is None:
            return True
        pause = min(_LONGEST_PAUSE, INTERVAL * 2**self.failures)
        return now - self.asked_at >= pause and (target.in_use or target.used_at >= self.asked_at or self.failures > 0)

    def tell(self, readings: Iterable[Reading], now: float) -> None:
        found = tuple(reading for reading in readings if reading.name not in _AVERAGES | _OWN)
        counters = {reading.name: reading.value for reading in found if reading.kind == "counter"}
        elapsed = now - self.answered if self.answered is not None else 0.0
        rates = {
            rate: max(0.0, counters[counter] - self._counters[counter]) / elapsed
            for rate, counter in _RATES.items()
            if elapsed > 0 and counter in counters and counter in self._counters
        }
        self.period = max(INTERVAL, elapsed)
        self.failures, self.answered, self._counters = 0, now, counters
        self.known = Engine(now, found, rates)

    def fail(self, reason: str, now: float) -> None:
        self.failures = min(self.failures + 1, 10)
        self.known = Engine(now, error=reason[:200])


class Engines:
    """Asks the engines that `targets` names at each `poke`; those it does not name any more are forgotten."""

    def __init__(self, targets: Callable[[], Iterable[Target]], clock: Callable[[], float] = time.monotonic) -> None:
        self._targets = targets
        self._clock = clock
        self._watches: dict[str, _Watch] = {}

    def poke(self) -> None:
        """Ask those that are due. Never waits."""
        now = self._clock()
        targets = {target.model: target for target in self._targets()}
        for model in self._watches.keys() - targets.keys():
            self._forget(model)
        for model, target in targets.items():
            if model in self._watches and self._watches[model].life != target.life:
                self._forget(model)
            watch = self._watches.setdefault(model, _Watch(target.life))
            if watch.is_due(target, now):
                watch.asked_at = now
                watch.asking = spawn(self._ask(watch, target), name=f"scrape-{model}")

    def known(self) -> dict[str, Engine]:
        """By model; a rate is that of an engine that worked, and 0 where it has not been asked since it rested."""
        now = self._clock()
        return {
            model: _rested(watch.known) if now - watch.known.at > 3 * watch.period else watch.known
            for model, watch in self._watches.items()
            if watch.known
        }

    def version(self, model: str) -> str | None:
        """Of the engine, where it runs and has told it."""
        watch = self._watches.get(model)
        return watch.version if watch else None

    def close(self) -> None:
        for model in list(self._watches):
            self._forget(model)

    def _forget(self, model: str) -> None:
        if asking := self._watches.pop(model).asking:
            asking.cancel()

    async def _ask(self, watch: _Watch, target: Target) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                status, page = await target.ask()
            if status in _WITHOUT_METRICS:
                watch.mute = True
            elif status != 200:
                watch.fail(f"it answered {status}", self._clock())
            else:
                self._told(watch, page)
                await self._ask_version(watch, target)
        except (Unasked, Malformed) as error:
            watch.fail(str(error), self._clock())
        except TimeoutError:
            watch.fail(f"no answer within {_PATIENCE:.0f} s", self._clock())

    async def _ask_version(self, watch: _Watch, target: Target) -> None:
        """Once in a life: it does not change."""
        if target.ask_props and not watch.asked_version and not watch.mute:
            watch.asked_version = True
            async with asyncio.timeout(_PATIENCE):
                status, page = await target.ask_props()
            watch.version = _version(page) if status == 200 else None

    def _told(self, watch: _Watch, page: bytes) -> None:
        if readings := read(page, PREFIX):
            watch.tell(readings, self._clock())
        else:
            watch.mute = True  # a server of another kind


def _version(page: bytes) -> str | None:
    try:
        build = json.loads(page)["build_info"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return build[:_LONGEST_VERSION] if isinstance(build, str) and build.isprintable() else None


def _rested(engine: Engine) -> Engine:
    return Engine(engine.at, engine.readings, dict.fromkeys(engine.rates, 0.0), engine.error)
