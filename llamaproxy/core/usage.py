"""The meter: tokens of one answer, counted while it passes.

Pure, and on the way of every byte: an ordinary event costs a few searches, and is parsed only if it has counts. What
the engine says of a whole answer wins; until then, and where the client leaves before, the events with content are
counted.

How well that counts is the engine's doing. llama-server sends one event for each token, with these exceptions, in all
of which there are fewer events than tokens: a character of several tokens (emoji, scripts that its vocabulary does not
know), the marks around reasoning and tool calls with a tool's name, a possible stop word. /completion tells the count
in every event, other streams but those of /v1/messages with `timings_per_token`: what they tell is believed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from llamaproxy.core import counts, sse
from llamaproxy.core.counts import HEAD, TAIL, WHOLE, Counts, total
from llamaproxy.core.deltas import FIRST, NEVER, UNKNOWN, Deltas, Ordinary
from llamaproxy.core.routing import Dialect

MAX_CHOICES = 1024
"""Answers of one request that are told apart: more are a broken engine's."""

# In JSON a quote within a text has a backslash before it: no text can look like these.
_HAS_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_INDEX = re.compile(rb'"index"\s*:\s*(\d{1,9})')
_ENDS = ("message_delta", "response.completed", "response.incomplete", "response.failed")
_NOTHING = Counts()
_SMALL = 2048
"""Bytes of a piece that may wait for others."""
_TOGETHER = 32


@dataclass(slots=True)
class Usage:
    """Tokens of one answer; `prompt` is all of the prompt, with its `cached` part, and speeds are tokens a second.

    `exact`: the engine said so at the end. Otherwise `completion` is what passed so far, which may be too little. None
    is not known: the prompt of an answer that broke off, a speed that no engine measured.
    """

    prompt: int | None = None
    cached: int | None = None
    completion: int = 0
    prompt_tps: float | None = None
    generation_tps: float | None = None
    exact: bool = False

    @classmethod
    def of(cls, told: Counts, completion: int, exact: bool) -> "Usage":
        prompt, cached, _, prompt_tps, generation_tps, _ = told
        return cls(prompt, cached, completion, prompt_tps, generation_tps, exact)


class Meter(Protocol):
    def feed(self, content: bytes) -> None:
        """The next piece of the body, without the framing of chunks, cut anywhere."""

    @property
    def tokens(self) -> int:
        """Tokens that passed so far, cheaply; `usage` may know better."""

    @property
    def usage(self) -> Usage:
        """What is known now; may be asked at any time, and costs some parsing."""


def meter(dialect: Dialect, stream: bool) -> Meter:
    """For one answer; `stream`: its content type is `text/event-stream`, whatever was asked for."""
    return StreamMeter(dialect) if stream else DocumentMeter()


class DocumentMeter:
    """A body that is one JSON document, of which no more than its ends are kept, and the counts between them."""

    tokens = 0
    _head = b""
    _rest = b""
    _midst: tuple[Counts, ...] = ()

    def feed(self, content: bytes) -> None:
        self._rest += content
        if len(self._rest) > 2 * WHOLE:
            self._head = self._head or self._rest[:HEAD]
            self._midst += tuple(counts.in_midst(self._rest, len(self._rest) - TAIL))[: MAX_CHOICES - len(self._midst)]
            self._rest = self._rest[-TAIL:]

    @property
    def usage(self) -> Usage:
        large = self._head or len(self._rest) > WHOLE
        told = self._of_large(self._head or self._rest[:HEAD]) if large else counts.read(self._rest)
        return Usage.of(told, told.completion or 0, not told.of_one) if told else Usage()

    def _of_large(self, head: bytes) -> Counts | None:
        """An array has an answer for each prompt. One answer may have something in it that looks like its counts."""
        if head.lstrip().startswith(b"["):
            every = (*self._midst, *counts.in_midst(self._rest, len(self._rest)))
            return total(every) if every else None
        return counts.read_ends(head, self._rest) or (self._midst[-1] if self._midst else None)


class StreamMeter(sse.Splitter):
    """A stream of events.

    A stream may carry several answers, each with an end of its own. Small pieces are looked at some at a time: cutting
    a piece costs as much as what is in it.
    """

    def __init__(self, dialect: Dialect) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._patience = 2
        self._tokens = 0
        self._by_name = dialect in (Dialect.RESPONSES, Dialect.ANTHROPIC)
        self._deltas = Deltas(dialect)
        self._like = UNKNOWN
        self._ordinary: Ordinary | None = None
        self._beginning = NEVER
        self._choices = {0}
        self._since_end = 0
        self._done = False
        self._latest = b""
        self._so_far = Counts()
        self._ends: dict[int, Counts] = {}
        self._of_all: list[Counts] = []
        self._shared_prompt = False

    def count_by(self, ordinary: Ordinary) -> None:
        """From now on some events are not fed here, but told in sum."""
        self._ordinary = ordinary
        ordinary.beginning = self._beginning

    def _know(self, beginning: bytes) -> None:
        self._beginning = beginning
        if self._ordinary:
            self._ordinary.beginning = beginning

    def feed(self, content: bytes) -> None:
        if self._ordinary and self._ordinary.events:
            self._look()
        self._pieces.append(content)
        if len(content) > _SMALL or len(self._pieces) >= self._patience:
            # What ordinary events are like is to be seen early.
            self._patience = min(2 * self._patience, _TOGETHER)
            self._look()

    def _look(self) -> None:
        """At pieces, and at what was counted after them."""
        pieces, self._pieces = self._pieces, []
        if pieces and (self.held or not self._count(b"".join(pieces))):
            # Mostly it is the end that is not ordinary, and nothing before it.
            counted = 0
            while not self.held and counted < len(pieces) and self._count(pieces[counted]):
                counted += 1
            super().feed(b"".join(pieces[counted:]))
        if (ordinary := self._ordinary) and ordinary.events:
            self._passed(ordinary.events, ordinary.latest)
            ordinary.events = 0

    def _count(self, together: bytes) -> bool:
        """Count events of one token each, which need not be taken apart; False where others may be among them."""
        if events := self._like.events(together):
            self._passed(events, together[together.rfind(b"\n\n", 0, -2) + 2 if events > 1 else 0 :])
        return events > 0

    def _passed(self, events: int, latest: bytes) -> None:
        self._tokens += events
        self._since_end += events
        self._latest = latest

    @property
    def tokens(self) -> int:
        """Events with content."""
        self._look()
        return self._tokens

    def block(self, block: bytes) -> None:
        content = self._deltas.has_content(block)
        if content:
            self._passed(1, block)
            if FIRST not in block:
                self._note_choice(block)
            elif not block.startswith(self._like.beginning):
                self._like = self._deltas.like(block)
                self._know(self._like.going_on)
        # `timings` of an event with content are those of timings_per_token: they are read if they are asked for.
        if (b'"usage"' in block and _HAS_USAGE.search(block)) or (not content and b'"timings"' in block):
            self._read(block)
            if content:
                # Others of this stream may tell more, too: none is to be counted unread.
                self._know(NEVER)
        elif not content and b"[DONE]" in block:
            self._done = True

    def _note_choice(self, block: bytes) -> None:
        found = _INDEX.search(block)
        if found and len(self._choices) < MAX_CHOICES:
            self._choices.add(int(found[1]))

    def _read(self, block: bytes) -> None:
        event = sse.parse(block)
        if event is None:
            return
        large = len(event.data) > WHOLE
        document = None if large else counts.parse(event.data)
        told = counts.read(event.data) if large else counts.counts_of(document)
        if told is None:
            return
        if not isinstance(document, dict):  # too large to be anything but an end
            self._end(len(self._ends), told)
        elif not _is_end(document):
            self._so_far = told.over(self._so_far)
        else:
            self._shared_prompt = document.get("object") == "chat.completion.chunk"
            self._end(_index(document), told)

    def _end(self, index: int | None, told: Counts) -> None:
        self._since_end = 0
        if index is None and len(self._of_all) < MAX_CHOICES:
            self._of_all.append(told)
        elif index is not None and (index in self._ends or len(self._ends) < MAX_CHOICES):
            self._ends[index] = told

    def _ended(self) -> bool:
        """Whether all answers have told their counts; one that is whole may tell those of all."""
        every = self._done or self._by_name or len(self._ends) + len(self._of_all) >= len(self._choices)
        return every and not self._since_end

    @property
    def usage(self) -> Usage:
        self._look()
        told = total(self._of_all or self._ends.values(), self._shared_prompt)
        if told.completion is not None and self._ended():
            return Usage.of(told.over(self._so_far), told.completion, True)
        event = sse.parse(self._latest)
        latest = (counts.read(event.data) if event else None) or Counts()
        so_far = latest.over(told).over(self._so_far)
        ended = (told.completion or 0) + self._since_end
        return Usage.of(so_far, max(self._tokens, ended, latest.completion or 0, self._so_far.completion or 0), False)


def _is_end(document: Mapping[str, Any]) -> bool:
    """Whether the counts are those of a whole answer. Some servers send counts that grow with every event."""
    choices = document.get("choices")
    if isinstance(choices, list):
        return not choices or any(isinstance(one, dict) and one.get("finish_reason") for one in choices)
    return document.get("stop") is True or document.get("type") in _ENDS


def _index(document: Mapping[str, Any]) -> int | None:
    """Which of several answers; None where it has its end in an event without a choice."""
    choices = document.get("choices")
    if choices == []:
        return None
    place = choices[0] if isinstance(choices, list) else document
    index = place.get("index") if isinstance(place, dict) else None
    return index if isinstance(index, int) else 0
