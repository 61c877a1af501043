"""The laws of the scheduler, and how its effects and its books are held to them after every event."""

from llamaproxy.core.events import (
    Drain,
    Start,
    Stop,
    StopReason,
)
from tests.core.books import Books, Phase, Request

TO_MAKE_ROOM = (StopReason.EVICTED, StopReason.FAIRNESS)
FOR_ROOM = (*TO_MAKE_ROOM, StopReason.OVER_LIMIT)


class Laws(Books):
    """Each check is a law; `world` says when it is looked at."""

    def _check_isolation(self, before: set[str]) -> None:
        """A breaker that opens empties the queue, and the process that earned it goes."""
        for model in filter(self._isolated, self.models):
            self._wishes.pop(model, None)
            assert not self.waiting_for(model), "somebody waits for an isolated backend"
            process = self.processes.get(model)
            if model not in before and process and process.phase is not Phase.STARTING and not self._closed:
                assert process.phase is not Phase.READY, "an unhealthy process is kept"
                process.unhealthy, process.leaving = True, StopReason.UNHEALTHY

    def _check_books(self) -> None:
        assert self.scheduler.queued == len(self.waiting)
        assert self.scheduler.in_flight == len(self.leases)
        assert self.scheduler.live == len(self.processes)
        assert self.scheduler.backends.keys() == self.models.keys() | self.processes.keys()
        for model, backend in self.scheduler.backends.items():
            process = self.processes.get(model)
            assert backend.state.value == (process.phase.value if process else "stopped")
            assert list(backend.leases) == list(process.leases if process else ())
            assert set(backend.queue) == {request.name for request in self.waiting_for(model)}

    def _check_queues(self, granted: list[Request]) -> None:
        """First come, first served within a model and a priority."""
        for request in granted:
            rivals = [rival for rival in self.waiting_for(request.model) if self._turn(rival) < self._turn(request)]
            for rival in rivals:
                assert request.light and not rival.light and not rival.exclusive, "a queue was jumped"

    def _check_places(self) -> None:
        """Nobody waits beside a free place, but behind one who waits to be alone.

        With time alone somebody of low priority passes that one, and has the place when anything happens next.
        """
        for model in self.in_phase(Phase.READY):
            for request in sorted(self.waiting_for(model), key=self._turn):
                assert not self._has_room(model, request), "somebody waits for a backend with room"
                if request.exclusive:
                    break
        for model in self.in_phase(Phase.DRAINING):
            assert self.processes[model].leases, "a drain without end"

    def _turn(self, request: Request) -> tuple[bool, int, tuple[float, int]]:
        """Who has waited for long goes first, whatever its priority."""
        patient = self.now - request.since < self.limits.max_wait
        return patient, -request.priority if patient else 0, request.seniority

    def _check_room(self) -> None:
        """Who is wanted has a process, or there is no room for one."""
        if self._closed:
            assert not self.waiting
            assert set(self.in_phase(Phase.STOPPING)) == set(self.processes)
            return
        live, cold = self.placed(), self._cold_here()
        assert cold == self._cold(), "a server elsewhere needs no room"
        at_rest = not self.placed(Phase.DRAINING, Phase.STOPPING) and not any(map(self._overdue, cold))
        for model in cold:
            assert not self._walled(model), "somebody waits who can never be served"
            before = [] if at_rest else self._before(model, cold)
            assert not self._may_start(model, [*live, *before], before), "room stays unused while somebody waits for it"

    def _check_alarm(self) -> None:
        due = float("inf") if self.scheduler.wake_at is None else self.scheduler.wake_at
        assert all(due <= request.deadline for request in self.waiting.values()), "an alarm after a deadline"
        for model in self.in_phase(Phase.READY):
            process, ttl = self.processes[model], self.models[model].ttl
            if ttl is not None and not process.leases:
                assert due <= process.idle_since + ttl, "an alarm after the end of a time to live"
        beyond = self.ledger.overdrawn(self.placed(Phase.STARTING, Phase.READY))
        for model in self._idle() if self.limits.linger is not None else ():
            rest = self.processes[model].idle_since + (self.limits.linger or 0)
            helps = any(map(all, zip(self.ledger.needs(model), beyond, strict=True)))
            assert not helps or self._closed or due <= rest, "an alarm after the end of a rest"

    def _check_turns(self) -> None:
        """Who makes room, when, and for how long it is asked to."""
        due = self.scheduler.wake_at
        assert due is None or due > self.now, "an alarm that rings without end"
        cold = self._cold_here()
        live = self.placed(Phase.STARTING, Phase.READY, Phase.DRAINING)
        staying = self.placed(Phase.STARTING, Phase.READY)
        for model in self._yielding():
            assert not self.models[model].pinned, "a pin does not hold"
            needed = self.ledger.too_much(model, [*staying, *cold])
            shy = [*self.placed(Phase.STARTING), *cold]
            assert needed or self.ledger.disturbs(1 + len(staying) + len(cold), shy), "a drain that nobody needs"
        for model in cold:
            before = self._before(model, cold)
            self._check_nobody_could_go(model, live, self._rested(), before)
            if self._overdue(model):
                self._check_nobody_could_go(model, staying, self._served(), before)
                self._check_claims(model, staying)
        self._check_limits(staying)

    def _check_nobody_could_go(self, model: str, others: list[str], victims: list[str], before: list[str]) -> None:
        """Who waits has room as soon as those have gone who go, or the victims would not be enough."""
        kept = [other for other in others if other not in victims]
        first = self._sure_to_claim(model, before, kept)
        if self.ledger.too_much(model, [*others, *first]) or not self.ledger.fits(model, others):
            assert not self._may_start(model, [*kept, *before], before), f"{victims} are kept beside {model}, who waits"

    def _sure_to_claim(self, model: str, before: list[str], kept: list[str]) -> list[str]:
        """Those before the model who are overdue, or have room once those have gone who may."""
        sure: list[str] = []
        for other in before:
            earlier = self._wanted_since(other) < self._wanted_since(model)
            if earlier and (self._overdue(other) or self._may_start(other, [*kept, *sure], sure)):
                sure.append(other)
        return sure

    def _check_claims(self, model: str, staying: list[str]) -> None:
        """Nobody younger has taken what somebody needs who has waited for too long."""
        claim = self.ledger.needs(model)
        for start in self.effects:
            if (
                isinstance(start, Start)
                and not self.models[start.model].url
                and self._wanted_before[start.model] > self._wanted_since(model)
            ):
                beyond = self.ledger.overdrawn([*staying, model])
                wants = self.ledger.needs(start.model)
                stolen = any(map(all, zip(claim, wants, beyond, strict=True)))
                assert not stolen, "room that is kept for somebody is taken by somebody younger"

    def _check_limits(self, staying: list[str]) -> None:
        beyond = self.ledger.overdrawn(staying)
        for model in self._rested():
            helps = any(map(all, zip(self.ledger.needs(model), beyond, strict=True)))
            assert not helps, "an idle backend is kept beyond the limits"

    def _check_victims(self) -> None:
        """Nobody goes in vain: were one of them still here, there would not be room enough."""
        gone = {e.model: e for e in self.effects if isinstance(e, Drain | Stop) and e.reason in FOR_ROOM}
        for model, effect in gone.items():
            if effect.reason is StopReason.OVER_LIMIT:
                self._check_relief(model, [other for other in gone if gone[other].reason is not effect.reason])
            elif effect.successor and model not in self._draining_before:
                others = [other for other in gone if gone[other].successor != effect.successor]
                self._check_need(model, effect, others)

    def _check_relief(self, victim: str, others: list[str]) -> None:
        staying = self.placed(Phase.STARTING, Phase.READY)
        assert self.ledger.too_much(victim, [*staying, *others]), "it was not beyond the limits"

    def _check_need(self, victim: str, effect: Drain | Stop, others: list[str]) -> None:
        successor = effect.successor
        assert successor
        phases = [Phase.STARTING, Phase.READY, *([Phase.DRAINING] if effect.reason is StopReason.EVICTED else [])]
        before = [*self._before(successor, self._cold_here())]
        there = [*{*self.placed(*phases), victim, *others}, *before]
        enough = self.ledger.fits(successor, there) and not self.ledger.disturbs(len(there) + 1, before)
        assert not enough, f"{victim} goes in vain"
