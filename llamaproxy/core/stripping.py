"""Takes the usage that only the gateway asked for out of a stream, and changes no other byte of its content.

Pure. With `stream_options.include_usage` a chat stream has one event more than the client expects: no choices, and
`usage`. Somebody who injected that option owes the client a stream without it. Owns nothing else: which streams need
this is for others to say.

llama-server's streams do not need it: without the option their last event of a choice has `timings`, which say the
same. With it those `timings` move into the extra event, and a client that reads them would miss them.
"""

from llamaproxy.core import counts, sse
from llamaproxy.core.framing import ChunkedBody, chunk

MAX_EXTRA = 16 * 1024
"""Bytes of the extra event, which has counts and names only: what is larger is passed on as it comes."""
_LAST_CHUNK = b"0\r\n\r\n"


def is_extra(block: bytes) -> bool:
    """Whether an event is there for its usage only."""
    if b'"usage"' not in block or not (event := sse.parse(block)):
        return False
    document = counts.parse(event.data)
    return isinstance(document, dict) and document.get("choices") == [] and isinstance(document.get("usage"), dict)


class UsageStripper(sse.Splitter):
    """On content, without the framing of chunks.

    Whole events go on at once. Held back is only the beginning of an event, which no reader could do anything with.
    """

    def __init__(self) -> None:
        super().__init__(MAX_EXTRA)
        self.removed = 0
        """Events."""
        self._passed: list[bytes] = []

    def through(self, content: bytes) -> bytes:
        """What the client gets now."""
        self.feed(content)
        return self._taken()

    def rest(self) -> bytes:
        """What is left at the end of the stream."""
        self.end()
        return self._taken()

    def block(self, block: bytes) -> None:
        if is_extra(block):
            self.removed += 1
        else:
            self._passed.append(block)

    def fragment(self, part: bytes) -> None:
        self._passed.append(part)

    def _taken(self) -> bytes:
        passed = self._passed[0] if len(self._passed) == 1 else b"".join(self._passed)
        self._passed.clear()
        return passed


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
