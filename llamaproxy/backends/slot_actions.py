"""What an engine is asked about its slots, and how its answers are read.

Knows llama-server's routes `/slots` and `/slots/{id}?action=…`, and believes none of their fields before it has
looked at it. Owns no deadline: an action on a slot that is at work waits for as long as that takes.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson

from llamaproxy.backends.upstream import Upstream

_MOST_SLOTS = 1000
_LONGEST_ECHO = 300


class SlotsRefused(Exception):
    """The engine did not do what it was asked; `unsupported` where it never will for this model."""

    def __init__(self, message: str, unsupported: bool = False) -> None:
        super().__init__(message)
        self.unsupported = unsupported


@dataclass(frozen=True, slots=True)
class Slot:
    """`task` numbers the last request it served, -1 where there was none: it may hold restored tokens all the same."""

    id: int
    busy: bool
    task: int


async def list_slots(upstream: Upstream) -> list[Slot]:
    """Raises SlotsRefused or UpstreamLost."""
    document = await _ask(upstream, "GET", "/slots")
    if not isinstance(document, list) or len(document) > _MOST_SLOTS:
        raise SlotsRefused("the engine's list of slots is none")
    return [_slot(entry) for entry in document]


async def save_slot(upstream: Upstream, slot: int, filename: str) -> int:
    """Have an idle slot written into the engine's own directory; returns the number of tokens it holds."""
    return await _act(upstream, slot, "save", filename, "n_saved")


async def restore_slot(upstream: Upstream, slot: int, filename: str) -> int:
    """Returns the number of tokens that the engine says it has read. One that fails leaves the slot empty."""
    return await _act(upstream, slot, "restore", filename, "n_restored")


async def _act(upstream: Upstream, slot: int, action: str, filename: str, count: str) -> int:
    body = orjson.dumps({"filename": filename})
    document = await _ask(upstream, "POST", f"/slots/{slot}?action={action}", body)
    return _number(document, count)


async def _ask(upstream: Upstream, method: str, target: str, body: bytes | None = None) -> Any:
    status, answer = await upstream.ask(method, target, body)
    if status != HTTPStatus.OK:
        said = answer[:_LONGEST_ECHO].decode("utf-8", "replace")
        raise SlotsRefused(f"the engine answered {status}: {said}", status == HTTPStatus.NOT_IMPLEMENTED)
    try:
        return orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        raise SlotsRefused(f"the engine's answer is not JSON: {error}") from error


def _slot(entry: Any) -> Slot:
    task = _number(entry, "id_task") if isinstance(entry, dict) and "id_task" in entry else -1
    return Slot(_number(entry, "id"), entry.get("is_processing") is True, task)


def _number(document: Any, key: str) -> int:
    value = document.get(key) if isinstance(document, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or value < -1:
        raise SlotsRefused(f"the engine's answer has no number {key!r}")
    return value
