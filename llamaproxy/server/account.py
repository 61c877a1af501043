"""What becomes known of one try of a request while its answer passes: in its row, and for its lease.

Owns the order of what is told to whom, and that tokens are counted however the answer ends. Changes no byte, and must
be cheap: it hears of every chunk.
"""

from collections.abc import Callable

from llamaproxy.backends.lease import Lease
from llamaproxy.core import usage
from llamaproxy.core.complaint import Complaint
from llamaproxy.core.response import Head
from llamaproxy.core.routing import Endpoint
from llamaproxy.core.stripping import Unasked, stripper
from llamaproxy.telemetry.ledger import Ledger, RequestRow

_OK = 200
_FAILED = 500
_STREAM = b"text/event-stream"

Observe = Callable[[bytes], None]


class Account:
    """One try: on one lease, for one row."""

    def __init__(
        self,
        ledger: Ledger,
        row: RequestRow,
        lease: Lease,
        endpoint: Endpoint,
        body: bytes,
        capture: Observe | None = None,
        unasked: Unasked | None = None,
    ) -> None:
        """`capture` sees every answer's content, whatever becomes of it, without what is `unasked` in a stream."""
        self._ledger = ledger
        self._capture = capture
        self._unasked = unasked
        self._row = row
        self._lease = lease
        self._endpoint = endpoint
        self._meter: usage.Meter | None = None
        self.alone: usage.StreamMeter | None = None
        """The meter, where nobody else wants to see the content of a stream."""
        self._complaint: Complaint | None = None
        self._body = body
        self._carry = None if endpoint.light else lease.backend.carry
        self._share = self._carry.begin(body) if self._carry else 0.0
        self.sent: Callable[[int], None] = row.sent
        row.backend = backend_name(lease)
        row.queue_ms = lease.queue_seconds * 1000 + (row.queue_ms or 0)
        row.load_ms = lease.load_seconds * 1000 + (row.load_ms or 0)

    def began(self, head: Head) -> Observe | None:
        """The head of the answer is here, and the first byte after it; returns who wants to see the content."""
        self._ledger.first_byte(self._row)
        status = head.status
        if status < 500 or status == 501:
            self._lease.answered()
        elif status == _FAILED:
            self._complaint = Complaint()
            return _both(self._complaint.feed, self._capture) if self._capture else self._complaint.feed
        elif status != 503:
            self._lease.failed(f"the engine answered {status}")
        stream = head.content_type == _STREAM
        if stream:
            # Below /upstream nobody has asked the body.
            self._row.stream = True
        capture = self._capture
        if capture and stream and self._unasked:
            capture = _stripped(capture, self._unasked)
        if status != _OK or self._endpoint.light:
            return capture
        self._meter = usage.meter(self._endpoint.dialect, stream)
        if isinstance(self._meter, usage.StreamMeter) and not capture:
            self.alone = self._meter
        return _both(self._meter.feed, capture) if capture else self._meter.feed

    @property
    def tokens(self) -> int:
        """Of the answer, that passed so far."""
        return self._meter.tokens if self._meter else 0

    def _judge(self, complaint: Complaint) -> None:
        """Half of it says nothing: a client that leaves is nobody's failure."""
        if complaint.of_client:
            self._lease.answered()
        else:
            self._lease.failed(f"the engine answered {_FAILED}")

    def close(self, whole: bool, left: bool = False) -> None:
        """Nothing more will come: `whole` answers came to their end, those that were `left` nobody waits for any more.

        The engine works at the next token of a stream when it hears of that, and at times has one that it cannot send:
        the row says what it has worked for, within one token.
        """
        if self._complaint and whole:
            self._judge(self._complaint)
        if self._meter is None:
            return
        row, used = self._row, self._meter.usage
        ahead = 1 if left and used.completion and not used.exact else 0
        row.prompt_tokens, row.cached_tokens, row.completion_tokens = used.prompt, used.cached, used.completion + ahead
        row.prompt_tps, row.generation_tps = used.prompt_tps, used.generation_tps
        if whole and self._carry:
            self._carry.served(self._body, self._share, used.prompt, used.cached)


def _both(first: Observe, second: Observe) -> Observe:
    def observe(data: bytes) -> None:
        first(data)
        second(data)

    return observe


def _stripped(capture: Observe, unasked: Unasked) -> Observe:
    through = stripper(unasked).through

    def observe(data: bytes) -> None:
        if kept := through(data):
            capture(kept)

    return observe


def backend_name(lease: Lease) -> str:
    """Which process or server it is, as rows tell it."""
    return f"{lease.backend.model}#{lease.backend.number}"
