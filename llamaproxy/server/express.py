"""The short way of what a stream of a chat mostly is: a chunk with one event of one token, and counts nobody asked for.

Owns an engine's transport for as long as such a stream lasts, in front of the `Connection` to it. Does at once what
that, `framing`, `usage`, `stripping` and `relay` would do one after the other, where none of them has anything but the
ordinary to say, and touches as few objects as can be: between two turns of the kernel most of what a chunk costs is to
find them. Whatever else comes is left as it is, and takes the long way. Two things are not looked for, because no
engine writes them: CR among the lines of an event, and usage that only some of a stream's events have.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from llamaproxy.core.deltas import NEVER
from llamaproxy.core.framing import ONLY_LINES, SHORT, SIZE_LINES
from llamaproxy.core.stripping import END_OF_EVENT, TIMINGS, TimingsStripper
from llamaproxy.core.usage import StreamMeter
from llamaproxy.server.passthrough import HIGH_WATER

_LF = 0x0A
_QUOTE = 0x22
_END = END_OF_EVENT + b"\r\n"


class Followed(Protocol):
    """Of a `Connection`, what the short way needs."""

    @property
    def between_chunks(self) -> bool: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, error: Exception | None) -> None: ...


class Owner(Protocol):
    """Of who relays the stream, what the short way needs."""

    @property
    def sent(self) -> Callable[[int], None]:
        """Is told how many bytes of the body went out."""

    def hold_back(self) -> None:
        """The client should take something before it is sent more."""

    def leave(self) -> None:
        """The client is gone."""


class Express(asyncio.Protocol):
    """For one stream, chunked on both sides. Meter and stripper get all that does not come this way.

    `beginning`, `events` and `latest` are the meter's, see `Ordinary`. `heard_at` is when something came this way last,
    in seconds of the event loop's clock.
    """

    __slots__ = (
        *("beginning", "events", "heard_at", "latest"),
        *("_client", "_connection", "_held", "_open", "_owner", "_sent", "_time"),
    )

    def __init__(
        self,
        connection: Followed,
        meter: StreamMeter,
        stripper: TimingsStripper,
        client: asyncio.WriteTransport,
        owner: Owner,
    ) -> None:
        self.beginning = NEVER
        self.events = 0
        self.latest = b""
        self.heard_at = 0.0
        self._connection = connection
        self._client = client
        self._owner = owner
        self._sent = owner.sent
        self._held = stripper.held
        self._time = asyncio.get_running_loop().time
        self._open = False
        meter.count_by(self)
        self._look()

    def data_received(self, data: bytes) -> None:
        """One piece of the body. A chunk with an ordinary event is counted and goes on; all else takes the long way."""
        length = len(data)
        if self._open and length < SHORT:
            line = ONLY_LINES[length]
            opening = line + self.beginning
            before, _, timings = data.partition(TIMINGS)
            counted, _, rest = timings.partition(b"}")
            content = before[len(line) :]
            if (
                rest == _END
                and data[: len(opening)] == opening
                and data[len(opening)] != _QUOTE
                and _LF not in content
                and _LF not in counted
            ):
                self.events += 1
                self.latest = data
                self.heard_at = self._time()
                self._pass_on(SIZE_LINES[len(content) + 3] + content + _END)
                return
        self._connection.data_received(data)
        self._look()

    def _look(self) -> None:
        """Whether the next piece begins where an event does, and a chunk."""
        self._open = self._connection.between_chunks and not self._held

    def _pass_on(self, chunk: bytes) -> None:
        client = self._client
        if client.is_closing():
            return self._owner.leave()
        client.write(chunk)
        self._sent(len(chunk))
        if client.get_write_buffer_size() > HIGH_WATER:
            self._owner.hold_back()

    def eof_received(self) -> bool | None:
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)
