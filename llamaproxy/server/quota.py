"""Whose request it is, and what that takes of its key's limits.

Owns the way from a key to its allowance, which outlives reloads, and when a request is counted in and settled. What
the limits mean is decided in `core/limits`; how many tokens an answer had is read in the request's row.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self, cast

from aiohttp import web

from llamaproxy.core.keys import Key
from llamaproxy.core.limits import Allowance, Limits, Standing, Want
from llamaproxy.core.routing import Endpoint
from llamaproxy.core.token_estimate import estimate
from llamaproxy.errors import RequestCancelled
from llamaproxy.models.catalogue import Model
from llamaproxy.server.incoming import Request
from llamaproxy.server.passthrough import ClientGone
from llamaproxy.telemetry.ledger import RequestRow

_ROOM = 1024
"""Allowances that are kept before it is looked for such as are of no use any more."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Caller:
    """`allowance` is None where the key has no limits."""

    key: Key
    allowance: Allowance | None
    clock: Clock


def _caller(request: web.Request) -> _Caller | None:
    ours: Any = request
    caller: _Caller | None = ours.caller
    return caller


class _Debt(NamedTuple):
    """What a request holds until it is settled."""

    row: RequestRow
    allowance: Allowance
    limits: Limits
    held: Want
    clock: Clock


class Quota:
    """The allowances of all keys, by their names."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._allowances: dict[str, Allowance] = {}
        self._room = _ROOM

    def enter(self, request: web.Request, key: Key) -> None:
        """It is this key's request."""
        caller = _Caller(key, self._allowance(key.name) if key.limits else None, self._clock)
        cast(Request, request).caller = caller

    def _allowance(self, name: str) -> Allowance:
        found = self._allowances.get(name)
        if found is None:
            if len(self._allowances) >= self._room:
                self._tidy()
            found = self._allowances[name] = Allowance()
        return found

    def _tidy(self) -> None:
        """Keys come and go; those that took nothing for a minute are as good as new."""
        now = self._clock()
        self._allowances = {name: kept for name, kept in self._allowances.items() if not kept.idle(now)}
        self._room = max(_ROOM, 2 * len(self._allowances))


class Grant:
    """One request that was counted in. At its end it is settled, by hand or as its row says."""

    __slots__ = ("_debt",)

    def __init__(self, debt: _Debt | None = None) -> None:
        self._debt = debt

    def settle(self, prompt: int | None, completion: int | None) -> None:
        """Tokens that were taken, None where that is not known: the reservation counts. The first time counts."""
        debt, self._debt = self._debt, None
        if debt:
            debt.allowance.settle(debt.held, prompt, completion, debt.limits, debt.clock())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """What never reached an engine, or was answered with an error, has taken nothing.

        Of an answer that its client did not wait for nobody knows; the engine may have worked for it for a long time.
        The same holds of one that an operator cancelled, which ends without an error where comments had been sent.
        """
        if self._debt is None:
            return
        row = self._debt.row
        abandoned = isinstance(error, asyncio.CancelledError | ClientGone) or row.status == RequestCancelled.status
        if row.backend is None or (row.completion_tokens is None and not abandoned):
            self.settle(0, 0)
        else:
            self.settle(row.prompt_tokens, row.completion_tokens)


_UNLIMITED = Grant()


def admit(
    request: web.Request,
    row: RequestRow,
    model: Model,
    endpoint: Endpoint,
    content: bytes,
    want: Want | None = None,
) -> Grant:
    """Count a request in for as long as the grant is entered; what it wants is estimated where nobody knows.

    Raises ModelNotAllowed or RateLimitExceeded.
    """
    caller = _caller(request)
    if caller is None:
        return _UNLIMITED
    caller.key.check_model(_names(model))
    if caller.allowance is None:
        return _UNLIMITED
    want = want or estimate(content, request.headers.get("Content-Type", ""), endpoint)
    limits = caller.key.limits
    held = caller.allowance.admit(limits, want, caller.clock())
    return Grant(_Debt(row, caller.allowance, limits, held, caller.clock))


def key_name(request: web.Request) -> str | None:
    """For rows: the name of the key that was shown, where one is needed."""
    caller = _caller(request)
    return caller.key.name if caller else None


def priority(request: web.Request) -> int:
    """Of the key that was shown, in the queue of a model."""
    caller = _caller(request)
    return caller.key.priority if caller else 0


def may_use(request: web.Request, model: Model) -> bool:
    caller = _caller(request)
    return caller is None or caller.key.may_use(_names(model))


def check_model(request: web.Request, model: Model) -> None:
    """Raises ModelNotAllowed."""
    if caller := _caller(request):
        caller.key.check_model(_names(model))


def fields(request: web.Request) -> dict[str, str]:
    """Header fields that tell a limited key where it stands. Source: OpenAI's guide "Rate limits", headers."""
    caller = _caller(request)
    if caller is None or caller.allowance is None:
        return {}
    now, limits = caller.clock(), caller.key.limits
    standings = {"requests": caller.allowance.requests(limits, now), "tokens": caller.allowance.tokens(limits, now)}
    return {
        f"x-ratelimit-{what}-{unit}": value
        for unit, standing in standings.items()
        if standing
        for what, value in _spelled(standing).items()
    }


def _spelled(standing: Standing) -> dict[str, str]:
    return {
        "limit": str(standing.limit),
        "remaining": str(standing.remaining),
        "reset": spell_duration(standing.reset),
    }


def spell_duration(seconds: float) -> str:
    """As OpenAI spells it, and Go's `time.ParseDuration` reads it: `120ms`, `59s`, `6m0s`, `1h0m0s`; rounded up."""
    if seconds <= 0:
        return "0s"
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _names(model: Model) -> tuple[str, ...]:
    return (model.name, *model.config.aliases)
