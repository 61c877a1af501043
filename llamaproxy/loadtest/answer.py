"""One answer, timed while it comes: when its first token was there, how far apart the others, how many they are.

Pure: bytes and a clock go in. What the server says of its tokens is believed; where it says nothing, events with
content are counted. Nothing that a server sends raises anything here.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from llamaproxy.core import counts, sse
from llamaproxy.core.routing import Dialect
from llamaproxy.core.usage import DocumentMeter, StreamMeter, Usage

Clock = Callable[[], float]

MOST_BYTES = 64 * 1024**2
"""Of one answer."""
_LONGEST_FAULT = 80
"""Characters."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request; without a `fault` it came whole.

    Times in seconds: `begun` and `ended` on the caller's clock, `first` from the request to the first token, `gaps`
    between tokens that came apart. `late`: it was given up.
    """

    begun: float
    ended: float
    status: int | None = None
    fault: str = ""
    late: bool = False
    first: float | None = None
    gaps: Sequence[float] = ()
    usage: Usage = field(default_factory=Usage)

    @property
    def seconds(self) -> float:
        return self.ended - self.begun

    @property
    def generating(self) -> float:
        """Seconds from the first token to the last."""
        return sum(self.gaps)


class Watch:
    """Follows one answer; `document` gets bodies that are no stream."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun = clock()
        self._stream: Stream | None = None
        self._document = bytearray()
        self._size = 0
        self._status: int | None = None

    def head(self, status: int, content_type: str) -> None:
        self._status = status
        if status == 200 and content_type == "text/event-stream":
            self._stream = Stream(self._clock)

    def feed(self, piece: bytes) -> bool:
        """The next piece of the body; False where that is enough of it."""
        self._size += len(piece)
        if self._stream:
            self._stream.feed(piece)
        else:
            self._document += piece
        return self._size <= MOST_BYTES

    def ended(self, fault: str = "", late: bool = False) -> Answer:
        """`fault` is what the connection suffered; what the answer itself says counts only where there is none."""
        ended = self._clock()
        if self._size > MOST_BYTES:
            fault = f"an answer of more than {MOST_BYTES // 1024**2} MiB"
        if stream := self._stream:
            first = stream.stamps[0] - self._begun if stream.stamps else None
            gaps = array("d", (after - before for before, after in zip(stream.stamps, stream.stamps[1:], strict=False)))
            fault = fault or stream.fault
            return Answer(self._begun, ended, self._status, _short(fault), late, first, gaps, stream.usage)
        body = bytes(self._document)
        fault = fault or _fault_of(self._status, body)
        meter = DocumentMeter()
        meter.feed(body)
        usage = Usage() if fault else meter.usage
        return Answer(self._begun, ended, self._status, _short(fault), late, usage=usage)


class Stream(sse.Splitter):
    """Events of one answer; `stamps` are of those with content."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.stamps = array("d")
        self._clock = clock
        self._meter = StreamMeter(Dialect.OPENAI)
        self._now = 0.0
        self._fault = "the stream ended without [DONE]"

    def feed(self, data: bytes) -> None:
        """What comes in one piece came at one time."""
        self._now = self._clock()
        super().feed(data)

    def block(self, block: bytes) -> None:
        before = self._meter.tokens
        self._meter.feed(block)
        if self._meter.tokens > before:
            self.stamps.append(self._now)
        elif (event := sse.parse(block)) and event.data == b"[DONE]":
            self._fault = self._fault if self._fault.startswith("error") else ""
        elif event and (error := _error_of(counts.parse(event.data))):
            self._fault = f"error in the stream: {error}"

    @property
    def fault(self) -> str:
        return self._fault or ("" if self.stamps else "a stream without a token")

    @property
    def usage(self) -> Usage:
        return self._meter.usage


def _fault_of(status: int | None, body: bytes) -> str:
    """Of a body that is no stream."""
    document = counts.parse(body)
    error = _error_of(document)
    if status != 200:
        return f"HTTP {status} {error}".rstrip()
    if error:
        return f"error with status 200: {error}"
    whole = isinstance(document, dict) and isinstance(document.get("choices"), list) and document["choices"]
    return "" if whole else "status 200 without choices"


def _error_of(document: Any) -> str:
    """Its code, else its type or message; empty where the document tells no error."""
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict):
        return str(error) if error else ""
    return next((str(error[key]) for key in ("code", "type", "message") if error.get(key)), "unknown")


def _short(fault: str) -> str:
    return fault if len(fault) <= _LONGEST_FAULT else fault[: _LONGEST_FAULT - 1] + "…"
