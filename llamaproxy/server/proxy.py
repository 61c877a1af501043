"""The way of a request: read, find the model, lease, forward, record.

Owns the order of these steps, and replays. What is decided on the way is decided elsewhere.
"""

import asyncio
import time
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from aiohttp import hdrs, web

from llamaproxy import scope
from llamaproxy.backends.lease import DEATH_NOTICE, Lease
from llamaproxy.backends.lost import UpstreamLost
from llamaproxy.backends.pool import Pool
from llamaproxy.core import renaming, routing, wish
from llamaproxy.core.limits import Want
from llamaproxy.core.routing import Dialect, Endpoint
from llamaproxy.core.token_estimate import estimate
from llamaproxy.errors import (
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    RequestCancelled,
    RequestCrashedBackend,
    Unavailable,
    UpstreamError,
    UpstreamStalled,
)
from llamaproxy.models.catalogue import Model
from llamaproxy.server import body, quota
from llamaproxy.server.account import Account
from llamaproxy.server.comments import WaitingComments
from llamaproxy.server.current import Current
from llamaproxy.server.flights import Flights, reason
from llamaproxy.server.outgoing import JSON, Outgoing, Translated, outgoing_below, outgoing_to, outgoing_translated
from llamaproxy.server.passthrough import ClientGone
from llamaproxy.server.rows import Rows
from llamaproxy.server.splice import Outcome, cut_off, forward, refuse
from llamaproxy.server.stamp import stamp, stamped
from llamaproxy.telemetry.captures import Captures
from llamaproxy.telemetry.ledger import Ledger, RequestRow

CHAT = "/v1/chat/completions"
MAX_REPLAYS = 5
_LOAD = Endpoint("load", Dialect.NATIVE, frozenset(), light=True)
SUSPECT_AFTER = 2
"""Crashes of the backend under a request, after which it is tried alone; one more, and it is the one."""


@dataclass(slots=True)
class _Job:
    """One request on its way to one model."""

    request: web.Request
    row: RequestRow
    model: Model
    endpoint: Endpoint
    outgoing: Outgoing


class Proxy:
    """Forwards requests for models."""

    def __init__(self, current: Current, pool: Pool, ledger: Ledger, flights: Flights, captures: Captures) -> None:
        self._current = current
        self._pool = pool
        self._ledger = ledger
        self._flights = flights
        self.rows = Rows(ledger, flights)
        self._captures = captures

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """`/api/chat`: a chat completion that streams, whether its body says so or not."""
        return await self.engine_route(request, CHAT, routing.ENDPOINTS[CHAT], {"stream": True})

    async def engine_route(
        self, request: web.Request, path: str, endpoint: Endpoint, forced: Mapping[str, Any] | None = None
    ) -> web.StreamResponse:
        """One of the engine's routes; the model is in the body, else in the query, else there is only one.

        `forced` goes over what the body says.
        """
        row = self.rows.open(request, endpoint.name, endpoint.dialect)
        try:
            if request.method not in endpoint.methods:
                raise MethodNotAllowed.taking(path, endpoint.methods)
            content = await self.content(request)
            row.bytes_in = len(content)
            kind = request.headers.get(hdrs.CONTENT_TYPE, "")
            name, stream = wish.read(content, kind, endpoint)
            if forced:
                content = renaming.in_body(content, kind, None, forced, ())
                name, stream = wish.read(content, kind, endpoint)
            model = self._current.catalogue.resolve(name or request.query.get("model"))
            row.model, row.stream = model.name, stream
            with quota.admit(request, row, model, endpoint, content):
                outgoing = outgoing_to(request, path, content, model, endpoint, stream)
                return await self._run(_Job(request, row, model, endpoint, outgoing))
        except BaseException as error:  # whatever ends a request ends its row, a cancellation too
            self.rows.close_failed(row, error)
            raise

    async def upstream_route(self, request: web.Request) -> web.StreamResponse:
        """`/upstream/{model}/...`: whatever it is, it goes to that model's engine."""
        endpoint = routing.upstream(request.method, "")
        row = self.rows.open(request, endpoint.name, endpoint.dialect)
        try:
            model, path = self._current.catalogue.split_path(routing.below_upstream(request.rel_url.raw_path))
            endpoint = routing.upstream(request.method, path)
            content = await self.content(request)
            row.bytes_in, row.model, row.dialect = len(content), model.name, str(endpoint.dialect)
            if request.method == "POST" and (endpoint.needs or endpoint.lists):
                wish.read(content, request.headers.get(hdrs.CONTENT_TYPE, ""), endpoint)
            with quota.admit(request, row, model, endpoint, content):
                outgoing = outgoing_below(request, path, content, model, endpoint)
                return await self._run(_Job(request, row, model, endpoint, outgoing))
        except BaseException as error:  # whatever ends a request ends its row, a cancellation too
            self.rows.close_failed(row, error)
            raise

    async def read(self, request: web.Request, row: RequestRow) -> bytes:
        """The body of a recorded request."""
        content = await self.content(request)
        row.bytes_in = len(content)
        return content

    def content(self, request: web.Request) -> Awaitable[bytes]:
        """Of any request, within the bounds of all bodies."""
        return body.read(request, self._current.max_body, self._current.body_timeout)

    async def translated(
        self, request: web.Request, row: RequestRow, model: Model, sent: Translated
    ) -> web.StreamResponse:
        """Answer a recorded request, which has been read."""
        row.model, row.stream = model.name, sent.stream
        want = estimate(sent.body, JSON, sent.endpoint)
        with quota.admit(request, row, model, sent.endpoint, sent.body, want):
            outgoing = outgoing_translated(request, sent, model)
            return await self._run(_Job(request, row, model, sent.endpoint, outgoing))

    async def load(self, request: web.Request, row: RequestRow, model: Model) -> None:
        """The whole of a recorded request that wants a model to be ready, and nothing of it."""
        row.model = model.name
        with quota.admit(request, row, model, _LOAD, b"", Want(place=False)):
            async with self._pool.lease(model.name, light=True, priority=quota.priority(request)) as lease:
                row.queue_ms, row.load_ms = lease.queue_seconds * 1000, lease.load_seconds * 1000
        self.rows.answered(row)

    def _run(self, job: _Job) -> Awaitable[web.StreamResponse]:
        """Until one try succeeds."""
        scope.model.set(job.model.name)
        ticket = self._pool.ticket(job.model.name)
        waiting = self._waiting(job, ticket)
        return self._comment(job, ticket, waiting) if waiting else self._try(job, ticket, None)

    async def _comment(self, job: _Job, ticket: str, waiting: WaitingComments) -> web.StreamResponse:
        """A stream that waits long begins before its answer, and must end as a stream."""
        try:
            async with waiting:
                return await self._try(job, ticket, waiting)
        except (GatewayError, asyncio.CancelledError) as raised:
            error = reason(job.request, raised)
            begun = await waiting.stop()
            if begun is None:
                raise
            await refuse(job.request, begun, error, job.endpoint.dialect, self._current.deadlines.idle, job.row.sent)
            self.rows.close_failed(job.row, error)
            cut_off(job.request)
            return begun

    def _waiting(self, job: _Job, ticket: str) -> WaitingComments | None:
        retelling = job.outgoing.retelling
        if not job.row.stream or (retelling and not retelling.comments):
            return None
        name = job.model.name
        return WaitingComments(
            job.request,
            self._current.config.limits.waiting_comments,
            lambda: self._pool.describe_wait(name, ticket),
            lambda: {**stamp(job.request, self._current.guard), "x-llamaproxy-model": name},
            job.row.sent,
        )

    async def _try(self, job: _Job, ticket: str, waiting: WaitingComments | None) -> web.StreamResponse:
        since = time.monotonic()
        crashes = 0
        outcome: Outcome | None = None
        while outcome is None:
            async with self._pool.lease(
                job.model.name,
                light=job.endpoint.light,
                since=since,
                exclusive=crashes >= SUSPECT_AFTER,
                ticket=ticket,
                priority=quota.priority(job.request),
            ) as lease:
                begun = await waiting.stop() if waiting else None
                try:
                    outcome = await self._forward(job, lease, begun)
                except UpstreamLost as lost:
                    await self._replay_or_raise(job, lease, lost, crashes)
                    crashes += lease.backend.crashed
                    if waiting:
                        waiting.start()
                except UpstreamStalled as stalled:
                    lease.stalled(stalled.message)
                    raise
        self.rows.close(job.row, outcome)
        if outcome.broken or outcome.refused:
            cut_off(job.request)
        return outcome.response

    async def _forward(self, job: _Job, lease: Lease, begun: web.StreamResponse | None) -> Outcome:
        outgoing = job.outgoing
        if lease.backend.carry and routing.acts_on_slots(outgoing.method, outgoing.target):
            outgoing = _without_files(outgoing)
        content = outgoing.body or b""
        capture = self._captures.begin(job.row, content)
        observe = capture.observe if capture else None
        account = Account(self._ledger, job.row, lease, job.endpoint, content, observe, outgoing.unasked)
        own = stamped(job.request, self._current.guard) + _about(job)
        whole = left = False
        self._flights.begin_try(job.row, account)
        try:
            outcome = await forward(job.request, lease.upstream, outgoing, self._current.deadlines, own, account, begun)
            whole, left = outcome.broken is None, isinstance(outcome.broken, RequestCancelled)
        except (asyncio.CancelledError, ClientGone):
            left = True
            raise
        finally:
            account.close(whole, left)
            self._flights.end_try(job.row)
        if isinstance(outcome.broken, UpstreamStalled):
            lease.stalled(outcome.broken.message)
        elif outcome.broken and not isinstance(outcome.broken, RequestCancelled):
            # A client that leaves now may not have the death counted twice, nor the answer as a good one.
            lease.undecided()
            with suppress(asyncio.CancelledError):  # The answer has ended, whatever becomes of its client.
                await lease.backend_gone(DEATH_NOTICE)
            lease.failed(outcome.broken.message)
        return outcome

    async def _replay_or_raise(self, job: _Job, lease: Lease, lost: UpstreamLost, crashes: int) -> None:
        """No byte has reached the client. A death is known before the lease ends, so that it is counted once."""
        row = job.row
        died = await lease.backend_gone(DEATH_NOTICE)
        lease.failed(str(lost))
        if not died and row.replays:
            # Twice no answer: it may be dying slowly, its sockets are gone long before its memory.
            await lease.backend.kill_if_hung()
            died = await lease.backend_gone(DEATH_NOTICE)
        if lease.backend.crashed and crashes >= SUSPECT_AFTER:
            raise RequestCrashedBackend(f"{job.model.name}: the engine crashed {crashes + 1} times under this request")
        row.replays += 1
        if not died and row.replays > 1:
            raise UpstreamError(f"{job.model.name}: the engine closed the connection without an answer")
        if row.replays > MAX_REPLAYS:
            raise Unavailable(
                f"{job.model.name}: the engine died {row.replays} times under this request", retry_after=10
            )


def _without_files(outgoing: Outgoing) -> Outgoing:
    """Erasing a slot needs no body, and a body could make something else of it. Raises InvalidRequest."""
    if routing.touches_slot_files(outgoing.target):
        raise InvalidRequest("slot files are the gateway's own while it carries KV over (kv_carry)", param="action")
    return replace(outgoing, body=None)


def _about(job: _Job) -> bytes:
    return _waits(job.model.name, job.row.queue_ms or 0, job.row.load_ms or 0)


@lru_cache(maxsize=256)
def _waits(model: str, queue_ms: float, load_ms: float) -> bytes:
    """Most requests wait for nothing, and are told alike."""
    waits = f"x-llamaproxy-queue-ms: {queue_ms:.0f}\r\nx-llamaproxy-load-ms: {load_ms:.0f}\r\n"
    return f"x-llamaproxy-model: {model}\r\n{waits}".encode()
