"""What is posted to the gateway's own routes: JSON, and little of it.

Owns the bounds and the words for what is wrong. JSON only, so that no form on a foreign page can send it.
"""

from typing import Any, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from llamaproxy.errors import InvalidJson, InvalidRequest, UnsupportedMediaType
from llamaproxy.server import body

LARGEST = 64 * 1024
"""Bytes."""
_TIMEOUT = 10.0
"""Seconds: these bodies fit a packet."""

B = TypeVar("B", bound=BaseModel)


async def read_json(request: web.Request, empty: Any = None) -> Any:
    """The decoded body; `empty`, unless it is None, stands for one of no bytes.

    Raises UnsupportedMediaType, InvalidJson, and what reading does.
    """
    if request.content_type != "application/json" and not (empty is not None and _may_go_without(request)):
        raise UnsupportedMediaType("the body must be sent as application/json")
    content = await body.read(request, LARGEST, _TIMEOUT)
    if not content and empty is not None:
        return empty
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from error


async def read_as(request: web.Request, kind: type[B]) -> B:
    """The body as a value of this type; no bytes are an empty object. Raises InvalidRequest as well."""
    content = await read_json(request, empty={})
    if not isinstance(content, dict):
        raise InvalidRequest("the body must be a JSON object")
    return as_value(content, kind)


def as_value(content: dict[str, Any], kind: type[B]) -> B:
    """Raises InvalidRequest."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise _explained(error) from error


def _may_go_without(request: web.Request) -> bool:
    """No form can send a DELETE, and no page of another origin without being asked first (Fetch, "CORS-preflight")."""
    return request.method == "DELETE" and not request.body_exists


def _explained(error: ValidationError) -> InvalidRequest:
    fault, *_ = error.errors(include_url=False, include_context=False)
    where = ".".join(str(part) for part in fault["loc"])[:200]
    where = where if where.isprintable() else ascii(where)[1:-1]
    told = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"].removeprefix("Value error, ")
    return InvalidRequest(f"{where}: {told[:300]}" if where else told[:300], param=where or None)
