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

MAX_EXTRA = 16 * 1024
"""Bytes of the extra event, which has counts and names only: what is larger is passed on as it comes."""
# In JSON a quote within a text has a backslash before it: no text can look like these. On the way of every event
# `find` asks for them: `in` makes an exception of bytes first, to see that they are no number.
TIMINGS = b',"timings":{'
_GOES_ON = b'"finish_reason":null'
END_OF_EVENT = b"}\n\n"
_LF = 0x0A
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
    before, found, timings = block.partition(TIMINGS)
    if not found or (block.find(_GOES_ON) < 0 and not block[: block.find(b"\n") + 1].endswith(_DELTA)):
        return block
    _, end, after = timings.partition(b"}")
    return before + after if end else block


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
        if not self.held and content.endswith(b"\n\n") and (left := self.of_whole(content)) is not None:
            return left
        self.feed(content)
        return self._taken()

    def rest(self) -> bytes:
        """What is left at the end of the stream."""
        self.end()
        return self._taken()

    def kept(self, block: bytes) -> bytes:
        """What stays of one event: itself, if nothing goes; nothing, if all of it does."""
        return block

    def of_whole(self, events: bytes) -> bytes | None:
        """What stays of whole events, one or several together; None where each must be looked at."""
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
    def kept(self, block: bytes) -> bytes:
        return b"" if is_extra(block) else block

    def of_whole(self, events: bytes) -> bytes | None:
        return events if events.find(b'"usage"') < 0 else None


class TimingsStripper(Stripper):
    def kept(self, block: bytes) -> bytes:
        return without_timings(block)

    def of_whole(self, events: bytes) -> bytes | None:
        if events.find(b"\n") == len(events) - 2:
            return without_timings(events)
        first, *others = events.split(TIMINGS)
        if not others:
            return events
        if len(others) != events.count(_GOES_ON) or _ENDS in events:
            return None
        cut = [other.partition(b"}") for other in others]
        if any(_LF in timings for timings, _, _ in cut):
            return None
        return first + b"".join([rest for _, _, rest in cut])
