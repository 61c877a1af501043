"""The pool: the scheduler's hands.

Owns the scheduler, the clock it is told, and those who wait. `lease` is the only way to a backend. Every effect is
carried out, by the `fleet` where it is on a backend's life, and every end of an effect comes back as an event; no
decision is made here.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping

from llamaproxy.backends.alarm import Alarm
from llamaproxy.backends.breakers import BreakerWatch
from llamaproxy.backends.fleet import Fleet, Launch
from llamaproxy.backends.lease import Lease
from llamaproxy.backends.life import Life
from llamaproxy.config import Config
from llamaproxy.core.events import (
    BackendAnswered,
    BackendExited,
    BackendReady,
    BreakerResetRequested,
    Drain,
    DrainBegun,
    Effect,
    Event,
    FootprintKnown,
    Grant,
    LeaseReleased,
    ModelsChanged,
    News,
    Outcome,
    Reject,
    RequestArrived,
    RequestLeft,
    RestartRequested,
    Resume,
    ShutdownDue,
    Start,
    StartRequested,
    Stop,
    StopRequested,
    TimePassed,
)
from llamaproxy.core.footprint import Footprint
from llamaproxy.core.scheduler import Scheduler
from llamaproxy.core.states import STOPPED, BackendState
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.tasks import spawn

log = logging.getLogger(__name__)

Check = Callable[[str], Footprint | None]
"""How much memory a model is thought to take, where that is known. Raises GatewayError where it is plain that it cannot
be started: nobody shall be evicted for it."""

Expect = Callable[[str], None]
"""Told of a model that will be started as soon as others have made room for it."""

Observe = Callable[[News], None]
"""Told of what happens to backends, in order. Must not wait or raise."""


class Pool:
    """All backends of the gateway; `backends` are for looking at, never for changing."""

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        config: Config,
        launch: Launch,
        check: Check = lambda model: None,
        expect: Expect = lambda model: None,
        observe: Observe = lambda news: None,
    ) -> None:
        self._scheduler = Scheduler(models, config.limits, config.breaker)
        self.backends = self._scheduler.backends
        self._queue_timeout = config.limits.queue_timeout
        self._check = check
        self._expect = expect
        self._observe = observe
        self._breakers = BreakerWatch(self.backends, observe)
        self._fleet = Fleet(launch, self._report, self._weighed)
        self._lives = self._fleet.lives
        """The fleet's own mapping: every request looks its backend up."""
        self._loop = asyncio.get_running_loop()
        self._waiters: dict[str, asyncio.Future[Life]] = {}
        self._alarm = Alarm(lambda: self._emit(TimePassed()))
        self._emptied = asyncio.Event()
        self._closing = False
        self._hurried = asyncio.Event()
        self._numbers = itertools.count(1)

    @property
    def scheduler(self) -> Scheduler:
        """For looking at, never for changing."""
        return self._scheduler

    def running(self, model: str) -> Life | None:
        return self._lives.get(model)

    def ticket(self, model: str) -> str:
        """A name for one wait, to ask about it while it lasts."""
        return f"{model}#{next(self._numbers)}"

    def describe_wait(self, model: str, ticket: str) -> str:
        """Why a request waits, in words for its client."""
        if (backend := self.backends.get(model)) is None:
            return f"{model} was removed"
        if backend.state is BackendState.STARTING:
            if not backend.load_seconds:
                return f"loading {model}"
            elapsed = time.monotonic() - backend.started_at
            return f"loading {model}, {min(99, int(100 * elapsed / backend.load_seconds))} %"
        return f"queued, position {self._scheduler.position(ticket, model, time.monotonic())}"

    def lease(
        self,
        model: str,
        *,
        light: bool = False,
        since: float | None = None,
        exclusive: bool = False,
        ticket: str | None = None,
        priority: int = 0,
    ) -> Lease:
        """A place on the model's backend, to be waited for.

        `since`, in seconds of the monotonic clock, is when a replayed request first arrived; `exclusive` leases have
        their backend to themselves; those of higher `priority` go first in the model's queue.
        """
        first = time.monotonic() if since is None else since
        request = ticket or self.ticket(model)
        deadline = first + self._queue_timeout
        return Lease(self, RequestArrived(request, model, deadline, light, first, exclusive, priority))

    def start(self, model: str) -> None:
        """Raises GatewayError where the check does."""
        self._examine(model)
        self._emit(StartRequested(model))

    def stop(self, model: str) -> None:
        self._emit(StopRequested(model))

    def restart(self, model: str) -> None:
        """Raises GatewayError where the check does: a process that runs is not given up for one that cannot."""
        self._examine(model)
        self._emit(RestartRequested(model))

    def reset_breaker(self, model: str) -> None:
        self._emit(BreakerResetRequested(model))

    def reconfigure(self, models: Mapping[str, ModelConfig], config: Config, replaced: frozenset[str]) -> None:
        """From now on these are the models and the rules; `replaced` ones are others under the same name."""
        self._queue_timeout = config.limits.queue_timeout
        self._emit(ModelsChanged(models, config.limits, config.breaker, replaced))

    def at_once(self, arrival: RequestArrived) -> Life | None:
        """For leases alone: the backend the request has a place on, if so; otherwise `grant` must be waited for now."""
        request, model = arrival.request, arrival.model
        known = self.backends.get(model)
        if known and known.state is STOPPED:
            self._examine(model)
        if self._scheduler.grants(arrival, time.monotonic()):
            return self._lives[model]
        self._waiters[request] = self._loop.create_future()
        self._emit(arrival)
        return None

    async def grant(self, arrival: RequestArrived) -> tuple[Life, float]:
        """For leases alone: the backend the request has a place on by now, and since when that is ready."""
        request, known = arrival.request, self.backends.get(arrival.model)
        granted = self._waiters[request]
        try:
            backend = await granted
        except asyncio.CancelledError:
            # The grant may have come after the cancellation was asked for, and before it arrived here.
            if granted.cancelled() or granted.exception():
                self._emit(RequestLeft(request))
            else:
                self._emit(LeaseReleased(request, Outcome.NEUTRAL))
            raise
        finally:
            del self._waiters[request]
        return backend, known.ready_since if known else backend.started_at

    def release(self, release: LeaseReleased) -> None:
        """For leases alone."""
        self._follow(self._tell(release))

    def good_answer(self, request: str, model: str) -> None:
        """For leases alone: news for a breaker that is half open, and nothing new for others."""
        if (backend := self.backends.get(model)) and backend.breaker.half_open:
            self._emit(BackendAnswered(request))

    async def close(self, drain_timeout: float) -> bool:
        """Let what is in flight end, then stop every backend; False where requests were still in flight.

        The caller ends the requests that are left; new ones are rejected from the first moment.
        """
        self._emit(DrainBegun())
        drained = await self._empty(drain_timeout)
        await self.stop_all()
        return drained

    async def stop_all(self) -> None:
        """Stop every backend, whatever it is doing. A process that not even KILL ends is left behind."""
        self._emit(ShutdownDue())
        await self._fleet.ended()
        self._alarm.set(None)
        self._breakers.close()

    def hurry(self) -> None:
        """End a drain now, and kill whatever is still running."""
        self._hurried.set()
        self._emit(ShutdownDue())
        self._fleet.kill()

    async def _empty(self, timeout: float) -> bool:
        """Whether nothing is in flight or queued any more, within `timeout` seconds and unless told to hurry."""
        self._closing = True
        self._look_whether_empty()
        waits = {spawn(event.wait(), name="drain") for event in (self._emptied, self._hurried)}
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return self._emptied.is_set()

    def _examine(self, model: str) -> None:
        """Before anybody is evicted for it. Raises GatewayError."""
        if footprint := self._check(model):
            self._emit(FootprintKnown(model, footprint, measured=False))

    def _weighed(self, model: str, footprint: Footprint) -> None:
        """What a device's driver does not tell stays as it was thought to be."""
        backend = self.backends.get(model)
        known = backend.footprint if backend else None
        devices = footprint.devices or (known.devices if known else ())
        self._emit(FootprintKnown(model, Footprint(footprint.ram, devices), measured=True))

    def _emit(self, event: Event) -> None:
        self._follow(self._tell(event))

    def _tell(self, event: Event) -> list[Effect]:
        effects = self._scheduler.handle(event, time.monotonic())
        self._breakers.after(event)
        self._alarm.set(self._scheduler.wake_at)
        return effects

    def _follow(self, effects: list[Effect]) -> None:
        for effect in effects:
            self._carry_out(effect)
        if self._closing:
            self._look_whether_empty()

    def _look_whether_empty(self) -> None:
        if not (self._scheduler.in_flight or self._scheduler.queued):
            self._emptied.set()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Grant():
                self._grant(effect)
            case Reject():
                if not (waiter := self._waiters[effect.request]).done():
                    waiter.set_exception(effect.error)
            case Start():
                self._observe(effect)
                self._fleet.start(effect.model, effect.spawn)
            case Drain():
                self._announce(effect, "draining")
            case Resume():
                self._observe(effect)
                log.info("%s: no longer draining", effect.model, extra={"model": effect.model})
            case Stop():
                self._announce(effect, "stopping")
                self._fleet.stop(effect.model, effect.reason)

    def _announce(self, effect: Drain | Stop, what: str) -> None:
        """The line is the model's own, whoever was the occasion."""
        room = f" to make room for {effect.successor}" if effect.successor else ""
        log.info("%s: %s (%s)%s", effect.model, what, effect.reason, room, extra={"model": effect.model})
        self._observe(effect)
        if effect.successor:
            self._expect(effect.successor)

    def _grant(self, effect: Grant) -> None:
        waiter = self._waiters[effect.request]
        if waiter.done():
            # Cancelled, and its task has not run yet to say so; an effect may not cause an event at once.
            self._loop.call_soon(self._emit, LeaseReleased(effect.request, Outcome.NEUTRAL))
        else:
            waiter.set_result(self._lives[effect.model])

    def _report(self, event: BackendReady | BackendExited) -> None:
        self._observe(event)
        self._emit(event)
