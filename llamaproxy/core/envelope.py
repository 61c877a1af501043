"""The messages of the live protocol: what a page asks, what it is answered, and what everybody is told.

Pure: the time is passed in, in milliseconds since the epoch. Owns the envelopes and nothing of what is in them; data
that is JSON already stays as it is.
"""

from dataclasses import dataclass, field
from typing import Any

import orjson

from llamaproxy.errors import GatewayError, InvalidRequest

PROTOCOL = 1
VERSION = "1.0"
_LONGEST_NAME = 128


@dataclass(frozen=True, slots=True)
class Ask:
    """A request of a page; `fault` is what is wrong with its envelope."""

    event: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    request_id: str | int | None = None
    fault: InvalidRequest | None = None


def read(text: str | bytes) -> Ask:
    """Whatever it is: one that is wrong is answered, too, under its own name as far as that is known."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return Ask(fault=InvalidRequest(f"the message is not valid JSON: {error}"))
    if not isinstance(message, dict):
        return Ask(fault=InvalidRequest("the message must be a JSON object"))
    event, data, request_id = message.get("event"), message.get("data"), message.get("requestId")
    return Ask(
        str(event) if _is_name(event) else "",
        data if isinstance(data, dict) else {},
        request_id if _is_name(request_id) or type(request_id) is int else None,
        _fault(message),
    )


def _fault(message: dict[str, Any]) -> InvalidRequest | None:
    if message.get("type") != "request":
        return InvalidRequest('`type` must be "request"', param="type")
    if not _is_name(message.get("event")):
        return InvalidRequest(f"`event` must be a text of 1 to {_LONGEST_NAME} characters", param="event")
    if not isinstance(message.get("data"), dict | None):
        return InvalidRequest("`data` must be an object", param="data")
    if message.get("version", VERSION) != VERSION:
        return InvalidRequest(f'`version` must be "{VERSION}"', param="version")
    return None


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME


def answer(ask: Ask, data: Any, now: int) -> bytes:
    """What was asked for; bytes are JSON."""
    return _response(ask, now, success=True, data=_embedded(data), error=None)


def refusal(ask: Ask, error: GatewayError, now: int) -> bytes:
    return _response(ask, now, success=False, data=None, error={"code": error.code, "message": error.message})


def broadcast(event: str, data: Any, now: int, topic: str | None = None, seq: int = 0) -> bytes:
    """`seq` is the number among those of its topic."""
    place = {"topic": topic, "seq": seq} if topic else {}
    return orjson.dumps({"type": "broadcast", "event": event, **place, "data": _embedded(data), "timestamp": now})


def _response(ask: Ask, now: int, **told: Any) -> bytes:
    return orjson.dumps(
        {
            "type": "response",
            "event": ask.event,
            **told,
            "requestId": ask.request_id,
            "timestamp": now,
            "version": VERSION,
        }
    )


def _embedded(data: Any) -> Any:
    return orjson.Fragment(data) if isinstance(data, bytes) else data
