"""What an engine answers, told as Ollama would.

Pure. Owns Ollama's answers: a document, or lines with a JSON object each, of which the last one has the counts and
durations. What was asked is `ollama`'s.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from llamaproxy.core.counts import Counts, counts_of, parse
from llamaproxy.core.piece import Calls, Events, Piece, complaint, document_of, piece_of
from llamaproxy.core.response import BadResponse

Json = dict[str, Any]

_NANOSECONDS = 1_000_000_000
_REASONS = {"length": "length", "limit": "length"}
"""How the engine says that it was stopped; whatever else it says is an end of its own accord."""


@dataclass(frozen=True, slots=True)
class Occasion:
    """One request: its model as the client spells it, when it began in seconds since the epoch, how many seconds ago
    that is, and for how many of them its model was loaded."""

    model: str
    began: float
    elapsed: Callable[[], float]
    loading: Callable[[], float]

    def head(self) -> Json:
        return {"model": self.model, "created_at": moment(self.began + self.elapsed())}

    def durations(self) -> Json:
        return {"total_duration": _nanoseconds(self.elapsed()), "load_duration": _nanoseconds(self.loading())}


Shape = Callable[[str, str, list[Json]], Json]
"""Where text, thinking and tool calls stand in an object."""


def as_message(text: str, thinking: str, calls: list[Json]) -> Json:
    """In those of /api/chat."""
    message: Json = {"role": "assistant", "content": text}
    if thinking:
        message["thinking"] = thinking
    if calls:
        message["tool_calls"] = calls
    return {"message": message}


def as_response(text: str, thinking: str, calls: list[Json]) -> Json:
    """In those of /api/generate, which knows no tools."""
    return {"response": text, "thinking": thinking} if thinking else {"response": text}


def moment(seconds: float) -> str:
    """Since the epoch, as Ollama spells it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def error(message: str) -> bytes:
    return orjson.dumps({"error": message})


def idle(occasion: Occasion, shape: Shape, reason: str) -> Json:
    """The answer to a request without content: `reason` says what it was for."""
    return {**occasion.head(), **shape("", "", []), "done": True, "done_reason": reason}


@dataclass(frozen=True, slots=True)
class Telling:
    """Retells chats and completions."""

    occasion: Occasion
    shape: Shape

    content_type = "application/x-ndjson"
    comments = False

    def whole(self, status: int, content: bytes) -> bytes:
        """Of a document. Raises BadResponse where it is none."""
        document = document_of(status, content)
        if status >= 400:
            return error(complaint(document, status))
        figures = Figures(self.occasion)
        figures.add(document)
        piece, calls = piece_of(document), Calls()
        calls.add(piece.calls)
        said = self.shape(piece.text, piece.thinking, calls.whole())
        end = {"done": True, "done_reason": reason_of(piece.reason), **figures.told()}
        return orjson.dumps({**self.occasion.head(), **said, **end})

    def stream(self) -> "Lines":
        return Lines(self.occasion, self.shape)


@dataclass(frozen=True, slots=True)
class Vectors:
    """Retells embeddings; `one`: the older route has one, and nothing else."""

    occasion: Occasion
    one: bool = False

    content_type = "application/json"
    comments = False

    def whole(self, status: int, content: bytes) -> bytes:
        """Raises BadResponse where there are none."""
        document = document_of(status, content)
        if status >= 400:
            return error(complaint(document, status))
        data = document.get("data")
        rows = data if isinstance(data, list) and all(isinstance(row, dict) for row in data) else []
        rows.sort(key=lambda row: row["index"] if isinstance(row.get("index"), int) else 0)
        vectors = [row.get("embedding") for row in rows]
        if not vectors or not all(isinstance(vector, list) for vector in vectors):
            raise BadResponse("its answer has no embeddings")
        if self.one:
            return orjson.dumps({"embedding": vectors[0]})
        prompt = (counts_of(document) or Counts()).prompt
        told = {"model": self.occasion.model, "embeddings": vectors, **self.occasion.durations()}
        return orjson.dumps(told if prompt is None else {**told, "prompt_eval_count": prompt})

    def stream(self) -> "Lines":
        raise BadResponse("embeddings do not stream")


class Lines:
    """A stream of events, as lines. The last one comes when the engine says that it is done: one that breaks off ends
    without it."""

    def __init__(self, occasion: Occasion, shape: Shape) -> None:
        self._occasion = occasion
        self._shape = shape
        self._events = Events(self._take)
        self._figures = Figures(occasion)
        self._calls = Calls()
        self._reason: str | None = None
        self._ended = False
        self._lines: list[bytes] = []

    def through(self, data: bytes) -> bytes:
        """Raises BadResponse where an event is too large, or calls too many tools."""
        self._events.feed(data)
        return self._told()

    def insert(self, content: bytes) -> bytes:
        return self._told() + content

    def end(self) -> bytes:
        """Some servers say no [DONE]."""
        self._finish()
        return self._told()

    def _told(self) -> bytes:
        lines = b"".join(self._lines)
        self._lines.clear()
        return lines

    def _take(self, data: bytes) -> None:
        if self._ended:
            return
        if data.strip() == b"[DONE]":
            return self._finish()
        document = parse(data)
        if not isinstance(document, dict):
            return
        if document.get("error"):
            self._ended = True
            self._lines.append(error(complaint(document, 500)) + b"\n")
            return
        self._figures.add(document)
        self._pass_on(piece_of(document))

    def _pass_on(self, piece: Piece) -> None:
        self._calls.add(piece.calls)
        self._reason = piece.reason or self._reason
        calls = self._calls.whole() if piece.reason else []
        if piece.text or piece.thinking or calls:
            self._line({**self._shape(piece.text, piece.thinking, calls), "done": False})

    def _finish(self) -> None:
        if self._reason is None or self._ended:
            return
        self._ended = True
        end = {"done": True, "done_reason": reason_of(self._reason), **self._figures.told()}
        self._line({**self._shape("", "", []), **end})

    def _line(self, told: Json) -> None:
        self._lines.append(orjson.dumps({**self._occasion.head(), **told}) + b"\n")


class Figures:
    """Counts and durations of one answer, in Ollama's names and nanoseconds.

    What the engine has not measured is measured here, from the first piece on.
    """

    def __init__(self, occasion: Occasion) -> None:
        self._occasion = occasion
        self._counts = Counts()
        self._timings: Json = {}
        self._first: float | None = None

    def add(self, document: Json) -> None:
        if self._first is None:
            self._first = self._occasion.elapsed()
        if found := counts_of(document):
            self._counts = found.over(self._counts)
        if isinstance(timings := document.get("timings"), dict):
            self._timings = timings

    def told(self) -> Json:
        total, loading = self._occasion.elapsed(), self._occasion.loading()
        first = total if self._first is None else self._first
        prompt, answer = self._measured("prompt_ms", first - loading), self._measured("predicted_ms", total - first)
        return {
            **self._occasion.durations(),
            "prompt_eval_count": self._counts.prompt or 0,
            "prompt_eval_duration": prompt,
            "eval_count": self._counts.completion or 0,
            "eval_duration": answer,
        }

    def _measured(self, name: str, seen: float) -> int:
        told = self._timings.get(name)
        return _nanoseconds(told / 1000 if isinstance(told, int | float) else seen)


def _nanoseconds(seconds: float) -> int:
    return max(0, round(seconds * _NANOSECONDS))


def reason_of(reason: str | None) -> str:
    return _REASONS.get(reason or "", "stop")
