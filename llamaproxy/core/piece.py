"""What an engine's answer says, whichever of its APIs it is told in: text, thoughts, calls of tools, an end.

Pure. Owns the reading of what is to be told in another way, with bounds on all that is kept of it. Believes no type: an
engine may be any server.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llamaproxy.core import sse
from llamaproxy.core.counts import parse
from llamaproxy.core.response import BadResponse

Json = dict[str, Any]

LARGEST_CALLS = 1024 * 1024
"""Bytes of the names and arguments of all tools that one answer calls."""
MOST_CALLS = 128
_LONGEST_ECHO = 4096


@dataclass(slots=True)
class Piece:
    """A part of an answer, or all of it; `calls` are those of tools, as the engine tells them."""

    text: str = ""
    thinking: str = ""
    calls: list[Json] = field(default_factory=list)
    reason: str | None = None


def piece_of(document: Json) -> Piece:
    """Of a chunk or document of a chat, a completion, or llama-server's own infill."""
    choices = document.get("choices")
    if not isinstance(choices, list):
        reason = _text(document, "stop_type") or "stop" if document.get("stop") is True else None
        return Piece(_text(document, "content"), reason=reason)
    choice = choices[0] if choices and isinstance(choices[0], dict) else {}
    said = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
    said = said if isinstance(said, dict) else {}
    calls = said.get("tool_calls")
    return Piece(
        _text(said, "content"),
        _text(said, "reasoning_content") or _text(said, "reasoning"),
        [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else [],
        _text(choice, "finish_reason") or None,
    )


class Calls:
    """The tools that an answer calls, whose arguments a stream tells in parts."""

    def __init__(self) -> None:
        self._calls: dict[int, tuple[Json, list[str]]] = {}
        self._size = 0

    def add(self, parts: list[Json]) -> None:
        """Raises BadResponse where they are too many."""
        for place, part in enumerate(parts):
            index = part["index"] if isinstance(part.get("index"), int) else place
            told, arguments = self._calls.setdefault(index, ({}, []))
            function = part["function"] if isinstance(part.get("function"), dict) else {}
            for key, value in (("id", part.get("id")), ("name", function.get("name"))):
                if isinstance(value, str) and value:
                    told[key] = value
                    self._size += len(value)
            if isinstance(text := function.get("arguments"), str):
                arguments.append(text)
                self._size += len(text)
        if self._size > LARGEST_CALLS or len(self._calls) > MOST_CALLS:
            raise BadResponse("it calls too many tools")

    def whole(self) -> list[Json]:
        """Those that can be made. Arguments that were cut off are none, and no reason to call a tool without them."""
        found = []
        for index, (told, texts) in sorted(self._calls.items()):
            arguments = parse("".join(texts).encode() or b"{}")
            if isinstance(arguments, dict) and "name" in told:
                function = {"index": index, "name": told["name"], "arguments": arguments}
                found.append({"id": told["id"], "function": function} if "id" in told else {"function": function})
        return found


class Events(sse.Splitter):
    """Calls `take` with the data of each event."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        super().__init__()
        self._take = take

    def block(self, block: bytes) -> None:
        if event := sse.parse(block):
            self._take(event.data)

    def fragment(self, part: bytes) -> None:
        raise BadResponse("an event is too large to be told in another way")


def complaint(document: Json, status: int) -> str:
    """The words of an engine's error, whichever way it has them."""
    said = document.get("error", document)
    text = said if isinstance(said, str) else _text(said, "message") if isinstance(said, dict) else ""
    return text[:_LONGEST_ECHO] or f"the engine answered {status}"


def document_of(status: int, content: bytes) -> Json:
    """Raises BadResponse where a good answer is none."""
    document = parse(content)
    if isinstance(document, dict):
        return document
    if status < 400:
        raise BadResponse("its answer is no JSON object")
    return {"error": content[:_LONGEST_ECHO].decode("utf-8", "replace").strip()}


def _text(document: Json, key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""
