"""Takes the counts that only the gateway asked for out of a stream, and changes no other byte of its content.

Pure. Whoever had the engine say more than the client expects owes the client a stream without it. Owns nothing else:
which streams need this is for others to say.

With `stream_options.include_usage` a chat stream has one event more: no choices, and `usage`. llama-server's streams
are not asked for it: their last event of a choice has `timings`, which say the same. With the option those move into
the extra event, and a client that reads them would miss them. They are asked for `timings_per_token`, which puts
`timings` into every event with content, too.
"""

from enum import Enum, auto

from llamaproxy.core import counts, sse
from llamaproxy.core.framing import ChunkedBody, chunk

MAX_EXTRA = 16 * 1024
"""Bytes of the extra event, which has counts and names only: what is larger is passed on as it comes."""
_LAST_CHUNK = b"0\r\n\r\n"
# In JSON a quote within a text has a backslash before it: no text can look like these.
_TIMINGS = b',"timings":{'
_GOES_ON = b'"finish_reason":null'
_ENDS = b'"finish_reason":"'
_DELTA = b".delta\n"
"""How the first line of an event of /v1/responses ends that has a part of the answer."""


class Unasked(Enum):
    """What an engine was asked for that its client does not expect."""

    USAGE = auto()
    TIMINGS = auto()


def stripper(unasked: Unasked) -> "Stripper":
    return UsageStripper() if unasked is Unasked.USAGE else TimingsStripper()


def without_timings(block: bytes) -> bytes:
    """An event as llama-server sends it to who does not ask for them; those of the end, which are sent to all, stay.

    A rest of the text that comes with the end has them, too; it loses them.
    """
    at = block.find(_TIMINGS)
    if at < 0 or not (_GOES_ON in block or block[: block.find(b"\n") + 1].endswith(_DELTA)):
        return block
    return block[:at] + block[block.index(b"}", at) + 1 :]


def is_extra(block: bytes) -> bool:
    """Whether an event is there for its usage only."""
    if b'"usage"' not in block or not (event := sse.parse(block)):
        return False
    document = counts.parse(event.data)
    return isinstance(document, dict) and document.get("choices") == [] and isinstance(document.get("usage"), dict)


class Stripper(sse.Splitter):
    """On content, without the framing of chunks.

    Whole events go on at once. Held back is only the beginning of an event, which no reader could do anything with.
    """

    def __init__(self) -> None:
        super().__init__(MAX_EXTRA)
        self._passed: list[bytes] = []

    def through(self, content: bytes) -> bytes:
        """What the client gets now."""
        self.feed(content)
        return self._taken()

    def rest(self) -> bytes:
        """What is left at the end of the stream."""
        self.end()
        return self._taken()

    def kept(self, block: bytes) -> bytes:
        """What stays of one event: itself, if nothing goes; nothing, if all of it does."""
        return block

    def of_ordinary(self, events: bytes) -> bytes | None:
        """What stays of several whole events together; None where each must be looked at."""
        return None

    def block(self, block: bytes) -> None:
        self._passed.append(self.kept(block))

    def fragment(self, part: bytes) -> None:
        self._passed.append(part)

    def _taken(self) -> bytes:
        passed = self._passed[0] if len(self._passed) == 1 else b"".join(self._passed)
        self._passed.clear()
        return passed


class UsageStripper(Stripper):
    def __init__(self) -> None:
        super().__init__()
        self.removed = 0
        """Events."""

    def kept(self, block: bytes) -> bytes:
        if not is_extra(block):
            return block
        self.removed += 1
        return b""


class TimingsStripper(Stripper):
    def kept(self, block: bytes) -> bytes:
        return without_timings(block)

    def of_ordinary(self, events: bytes) -> bytes | None:
        first, *others = events.split(_TIMINGS)
        if not others:
            return events
        if len(others) != events.count(_GOES_ON) or _ENDS in events:
            return None
        return first + b"".join([other.partition(b"}")[2] for other in others])


class ChunkedUsageStripper:
    """On a chunked body as it comes.

    A piece that begins and ends between chunks and between events, and loses nothing, goes on untouched. Of any other
    the content goes on in chunks of its own, so that the client's side is always between chunks, too. Trailer fields
    may be lost with it, which RFC 9110 allows (section 6.5.1).
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._body = ChunkedBody(self._parts.append)
        self._stripper = UsageStripper()
        self._aligned = True

    @property
    def removed(self) -> int:
        return self._stripper.removed

    def through(self, raw: bytes) -> bytes:
        """What the client gets now. Raises BadResponse where the chunks are malformed."""
        was_aligned, removed = self._aligned, self.removed
        self._body.feed(raw)
        content = self._stripper.through(b"".join(self._parts))
        self._parts.clear()
        self._aligned = not self._stripper.held and (self._body.between_chunks or self._body.ended)
        if was_aligned and self._aligned and removed == self.removed:
            return raw
        if self._body.ended:
            content += self._stripper.rest()
        return (chunk(content) if content else b"") + (_LAST_CHUNK if self._body.ended else b"")
