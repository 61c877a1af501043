"""What the gateway itself says: JSON bodies and errors in the dialect of whoever asked.

Owns the envelopes. Knows nothing of requests or backends.
"""

import math
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from llamaproxy.core.routing import Dialect
from llamaproxy.errors import GatewayError, MethodNotAllowed, RequestOverLimit

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(content), status=status, headers=headers, content_type="application/json", charset="utf-8"
    )


def error_response(error: GatewayError, dialect: Dialect) -> web.Response:
    """The whole answer; 429 and 503 carry Retry-After in whole seconds, 401 and 405 what RFC 9110 asks for."""
    return json_response(envelope(error, dialect), error.status, _error_fields(error))


def closing_answer(error: GatewayError, request_id: str, dialect: Dialect) -> bytes:
    """The same, in bytes, for a connection that ends with it: its request may have had no head."""
    body = orjson.dumps(envelope(error, dialect))
    fields = {
        "Content-Type": "application/json; charset=utf-8",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Server": "llamaproxy",
        "X-Request-Id": request_id,
        **_error_fields(error),
    }
    first = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"
    lines = [first, *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def _error_fields(error: GatewayError) -> dict[str, str]:
    fields = {}
    if error.retry_after is not None:
        fields["Retry-After"] = str(math.ceil(error.retry_after))
    elif error.status in (429, 503):
        fields["Retry-After"] = "10"
    if isinstance(error, RequestOverLimit):
        fields["x-should-retry"] = "false"  # OpenAI's clients ask for nothing in vain then
    if error.status == 401:
        fields["WWW-Authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed):
        fields["Allow"] = ", ".join(error.methods)
    return fields


def envelope(error: GatewayError, dialect: Dialect) -> dict[str, Any]:
    """The error as the dialect's clients expect it. Sources: the API references of OpenAI, Anthropic and Ollama."""
    if dialect is Dialect.OLLAMA:
        return {"error": error.message}
    if dialect is Dialect.ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": error.message, "code": error.code}}
    body: dict[str, Any] = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    if error.detail:
        body["detail"] = error.detail
    return {"error": body}


def error_event(error: GatewayError, dialect: Dialect) -> bytes:
    """The last event of a stream that broke: unmistakable, and never followed by the stream's own end."""
    name = b"event: error\n" if dialect in (Dialect.ANTHROPIC, Dialect.RESPONSES) else b""
    content = envelope(error, dialect)
    if dialect is Dialect.OLLAMA:  # its streams have lines, not events
        return orjson.dumps(content) + b"\n"
    if dialect is Dialect.RESPONSES:
        content = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
    return b"\n\n" + name + b"data: " + orjson.dumps(content) + b"\n\n"
