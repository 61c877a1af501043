"""What every answer carries, whoever made it: the request's id, who answered, where a limited key stands, and what a
browser may do with it."""

import itertools
import re
import secrets
from typing import Any

from aiohttp import hdrs, web
from multidict import istr

from llamaproxy.core import headers
from llamaproxy.server import quota
from llamaproxy.server.guard import Guard

_FIELD = istr("X-Request-Id")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_OURS = f"{secrets.token_hex(8)}-"
"""The beginning of every id that this process makes: unique among all gateways, and never guessed."""
_numbers = itertools.count()


def request_id(request: web.Request) -> str:
    """The client's own id where it is harmless, else a new one; the same for the whole request."""
    ours: Any = request
    known: str | None = ours.known_as
    if known is None:
        given = request.headers.get(_FIELD)
        known = ours.known_as = given if given and _REQUEST_ID.fullmatch(given) else fresh_id()
    return known


def fresh_id() -> str:
    """One of ours."""
    return f"{_OURS}{next(_numbers):08x}"


def stamp(request: web.Request, guard: Guard) -> dict[str, str]:
    """Header fields."""
    return {"X-Request-Id": request_id(request), "Server": "llamaproxy", **_for_some(request, guard)}


def stamped(request: web.Request, guard: Guard) -> bytes:
    """The same fields as lines of a head."""
    lines = f"X-Request-Id: {request_id(request)}\r\nServer: llamaproxy\r\n".encode()
    more = _for_some(request, guard)
    return lines + headers.lines(more) if more else lines


def _for_some(request: web.Request, guard: Guard) -> dict[str, str]:
    """What only answers to limited keys and to pages of allowed origins have."""
    fields = quota.fields(request)
    origin = request.headers.get(hdrs.ORIGIN)
    if origin and guard.allows_origin(origin):
        fields |= {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
    return fields
