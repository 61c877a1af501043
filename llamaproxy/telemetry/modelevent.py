"""One thing that happened to a model: its process or its circuit breaker is in another state.

Pure. Owns the codes, the sentence that says the same to people, and how long each state lasted. Keeps no past beyond
that: `modelhistory` does.
"""

from typing import Any, NamedTuple

from llamaproxy.core.breaker import BreakerState
from llamaproxy.core.events import (
    BackendExited,
    BackendReady,
    BreakerMoved,
    Drain,
    Grounds,
    News,
    Resume,
    Start,
    Stop,
    StopReason,
)

CRASHED, STOPPED = "crashed", "stopped"
BREAKER = "breaker_"
"""Before the state of a circuit breaker; other states are those of the process."""
BEGAN = "gateway_started"
AT_REST = frozenset({CRASHED, STOPPED, f"{BREAKER}{BreakerState.CLOSED}"})
"""States that a gateway which ends without a word leaves nothing of."""
LONGEST_DETAIL = 500

_WHY = {
    StopReason.EVICTED: "evicted",
    StopReason.FAIRNESS: "making room",
    StopReason.TTL: "not used for its time to live",
    StopReason.REQUESTED: "as somebody asked",
    StopReason.OVER_LIMIT: "more was taken than the limits allow",
    StopReason.UNHEALTHY: "its circuit breaker has opened",
    StopReason.RELOADED: "the configuration has changed",
    StopReason.SHUTDOWN: "the gateway is shutting down",
    BEGAN: "the gateway has started anew",
}
_GROUNDS = {
    Grounds.ONLY_ONE: "no other was idle",
    Grounds.PRIORITY: "lowest priority",
    Grounds.LEAST_RECENTLY_USED: "least recently used",
    Grounds.LOADS_FASTEST: "loads fastest",
}


class ModelEvent(NamedTuple):
    """`id` is the time in microseconds since the epoch, or one more than that of the event before.

    `reason` is a code: a StopReason, the code of an error, `resumed` or `gateway_started`; `detail` is whom it was for
    and on what grounds, or what an engine that failed said. `seconds`: how long the state before it lasted.
    """

    id: int
    model: str
    spawn: int
    state: str
    reason: str | None = None
    detail: str | None = None
    seconds: float | None = None

    @property
    def breaker(self) -> bool:
        return self.state.startswith(BREAKER)

    def shown(self) -> dict[str, Any]:
        """`at` in seconds since the epoch, `text` the same in one sentence."""
        seconds = None if self.seconds is None else round(self.seconds, 3)
        return {
            "at": self.id / 1e6,
            "spawn": self.spawn,
            "state": self.state,
            "reason": self.reason,
            "detail": self.detail,
            "seconds": seconds,
            "text": sentence(self),
        }


def sentence(event: ModelEvent) -> str:
    """For people."""
    lasted = "" if event.seconds is None else f" after {event.seconds:.1f} s"
    detail = f": {event.detail}" if event.detail else ""
    if event.state == "ready":
        return "no longer draining" if event.reason == "resumed" else f"ready{lasted}"
    if event.reason == StopReason.EVICTED and event.state == "stopping":
        return f"evicted {event.detail}" if event.detail else "evicted"
    if event.state == CRASHED:
        return f"failed{lasted}{detail}"
    if event.breaker:
        return f"circuit breaker {event.state.removeprefix(BREAKER).replace('_', '-')}{detail}"
    why = _WHY.get(event.reason or "")
    if why and event.reason == StopReason.FAIRNESS and event.detail:
        why = f"{why} {event.detail}"
    return f"{event.state}: {why}" if why else event.state


class Lives:
    """Makes events of news, which have to come in order. Remembers the present state of each process and breaker."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, bool], int] = {}
        self._leaving: dict[tuple[str, int], StopReason] = {}

    def take(self, news: News, id: int) -> ModelEvent:
        """`id` is the number of the event, and its time."""
        state, reason, detail = self._state(news)
        track = (news.model, isinstance(news, BreakerMoved))
        before, self._since[track] = self._since.get(track), id
        seconds = None if before is None else (id - before) / 1e6
        return ModelEvent(id, news.model, news.spawn, state, reason, detail and detail[:LONGEST_DETAIL], seconds)

    def forget(self, model: str) -> None:
        """It is no more."""
        for breaker in (False, True):
            self._since.pop((model, breaker), None)

    def _state(self, news: News) -> tuple[str, str | None, str | None]:
        life = (news.model, news.spawn)
        match news:
            case Start():
                return "starting", None, None
            case BackendReady():
                return "ready", None, None
            case Resume():
                return "ready", "resumed", None
            case Drain():
                return "draining", news.reason.value, _for(news.successor)
            case Stop():
                self._leaving[life] = news.reason
                return "stopping", news.reason.value, _for(news.successor, news.grounds)
            case BreakerMoved():
                shut = news.state is not BreakerState.CLOSED
                return f"{BREAKER}{news.state.value}", None, news.reason if shut else None
            case BackendExited():
                if reason := self._leaving.pop(life, None):
                    return STOPPED, reason.value, None
                return CRASHED, news.error.code, news.error.message


def _for(successor: str | None, grounds: Grounds | None = None) -> str | None:
    parts = [f"for {successor}" if successor else "", _GROUNDS[grounds] if grounds else ""]
    return ": ".join(filter(None, parts)) or None
