"""What LM Studio's REST API says beyond OpenAI's, with the answer of a chat or completion.

Pure. Owns the fields that are added: `stats`, `model_info` and `runtime`. They stand in a document, or in the event of
a stream in which an answer ends; nothing else of it is changed. Source: LM Studio's documentation, "REST API v0".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from llamaproxy.core import sse
from llamaproxy.core.counts import counts_of, parse
from llamaproxy.core.stripping import without_timings

Json = dict[str, Any]

_STOPPED = {"stop": "eosFound", "length": "maxPredictedTokensReached", "tool_calls": "toolCalls"}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """One request: what is known of its model by now, and how many seconds ago it began."""

    info: Callable[[], Json]
    elapsed: Callable[[], float]


@dataclass(frozen=True, slots=True)
class WithStats:
    """Retells chats and completions."""

    surroundings: Surroundings

    content_type = "text/event-stream"
    comments = True

    def whole(self, status: int, content: bytes) -> bytes:
        """What is no good answer, or none that can be read, goes on as it is."""
        document = parse(content)
        if status >= 400 or not isinstance(document, dict):
            return content
        return orjson.dumps(document | added(document, self.surroundings, self.surroundings.elapsed()))

    def stream(self) -> "Events":
        return Events(self.surroundings)


class Events:
    """The events of a stream, as they come but for those with an end."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._splitter = _Splitter(self._retold)
        self._first: float | None = None

    def through(self, data: bytes) -> bytes:
        return self._splitter.through(data)

    def insert(self, content: bytes) -> bytes:
        return self._splitter.rest() + content

    def end(self) -> bytes:
        return self._splitter.rest()

    def _retold(self, block: bytes) -> bytes:
        if self._first is None:
            self._first = self._surroundings.elapsed()
        if b'"finish_reason"' not in block or not (event := sse.parse(block)):
            return block
        document = parse(event.data)
        if not isinstance(document, dict) or _reason(document) is None:
            return without_timings(block)
        return b"data: " + orjson.dumps(document | added(document, self._surroundings, self._first)) + b"\n\n"


class _Splitter(sse.Splitter):
    """Passes on what `retold` makes of each event."""

    def __init__(self, retold: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self._retold = retold
        self._passed: list[bytes] = []

    def through(self, data: bytes) -> bytes:
        self.feed(data)
        return self._taken()

    def rest(self) -> bytes:
        self.end()
        return self._taken()

    def block(self, block: bytes) -> None:
        self._passed.append(self._retold(block))

    def fragment(self, part: bytes) -> None:
        self._passed.append(part)

    def _taken(self) -> bytes:
        passed = b"".join(self._passed)
        self._passed.clear()
        return passed


def added(document: Json, surroundings: Surroundings, first: float) -> Json:
    """`first` is in how many seconds the answer began to come; what the engine measured itself is better."""
    timings = document.get("timings")
    told = timings if isinstance(timings, dict) else {}
    prompt, answer = (_seconds(told.get(key)) for key in ("prompt_ms", "predicted_ms"))
    counts = counts_of(document)
    stats = {
        "tokens_per_second": counts.generation_tps if counts else None,
        "time_to_first_token": first if prompt is None else prompt,
        "generation_time": answer,
        "stop_reason": _STOPPED.get(_reason(document) or "", "eosFound"),
    }
    runtime = {"name": "llama.cpp", "version": str(document.get("system_fingerprint") or "")}
    return {"stats": stats, "model_info": surroundings.info(), "runtime": {**runtime, "supported_formats": ["gguf"]}}


def _reason(document: Json) -> str | None:
    choices = document.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    reason = choice.get("finish_reason") if isinstance(choice, dict) else None
    return reason if isinstance(reason, str) else None


def _seconds(milliseconds: object) -> float | None:
    return milliseconds / 1000 if isinstance(milliseconds, int | float) else None
