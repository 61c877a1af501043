"""The request as an engine gets it.

Owns what becomes of target, fields and body on the way from the client. Servers that are not ours must find their model
under their own name. All are asked for what they would not tell by themselves of a stream.
"""

from dataclasses import dataclass
from typing import NamedTuple

from aiohttp import web

from llamaproxy.core import headers, renaming, rewriting, routing, wish
from llamaproxy.core.routing import Dialect, Endpoint
from llamaproxy.core.stripping import Unasked
from llamaproxy.errors import InvalidRequest
from llamaproxy.models.catalogue import Model
from llamaproxy.server.retold import Retelling
from llamaproxy.server.stamp import request_id

_WITH_STREAM_OPTIONS = frozenset({"chat/completions", "completions"})
_WITH_TIMINGS = frozenset({"chat/completions", "completions", "responses"})
JSON = "application/json"
_MOST_ASKED = 1024 * 1024
"""Bytes of a body that is copied to ask for more than its client does."""


@dataclass(slots=True)
class Outgoing:
    """The request as the engine gets it, and what its answer has to follow.

    `fields` are lines of header fields. `unasked`: what the engine was asked for that the client does not expect.
    `retelling`: how the answer is told to a client of another API, whose dialect is that of errors.
    """

    method: str
    target: str
    fields: bytes
    body: bytes | None
    dialect: Dialect = Dialect.OPENAI
    unasked: Unasked | None = None
    retelling: Retelling | None = None


class Translated(NamedTuple):
    """A request of another API in the engine's words: JSON for one of the engine's routes."""

    path: str
    endpoint: Endpoint
    body: bytes
    stream: bool
    dialect: Dialect
    retelling: Retelling


def outgoing_to(
    request: web.Request, path: str, content: bytes, model: Model, endpoint: Endpoint, stream: bool
) -> Outgoing:
    """One of the engine's routes. llama-server is asked for the counts of every token of a stream, which an abort may
    make the last; those of the end it tells unasked, other servers are asked for them.
    """
    query, body = _named(request, content, model)
    body, unasked = _with_counts(body, model, endpoint) if stream else (body, None)
    return _outgoing(request, path, query, body, endpoint, unasked)


def outgoing_translated(request: web.Request, sent: Translated, model: Model) -> Outgoing:
    """Nothing of the client's own head goes with it: that describes another body. Whoever tells the answer anew takes
    out what was not asked for."""
    config = model.config
    name = None if config.path is not None else config.upstream_name or model.name
    body = renaming.in_body(sent.body, JSON, name, config.set_params, config.strip_params)
    if sent.stream:
        body, _ = _with_counts(body, model, sent.endpoint)
    fields = f"Content-Type: {JSON}\r\nX-Request-Id: {request_id(request)}\r\n".encode()
    return Outgoing("POST", sent.path, fields, body, sent.dialect, retelling=sent.retelling)


def outgoing_below(request: web.Request, path: str, content: bytes, model: Model, endpoint: Endpoint) -> Outgoing:
    """Below /upstream/{model}: as it came, but for what the model's server gets on any known route."""
    config = model.config
    if config.url and routing.climbs(path):
        raise InvalidRequest("the path must not contain `..`")
    query, body = request.rel_url.raw_query_string, content
    if endpoint.methods and model.rewritten:
        wish.read(content, request.headers.get("Content-Type", ""))
        query, body = _named(request, content, model)
    return _outgoing(request, path, query, body, endpoint)


def _with_counts(body: bytes, model: Model, endpoint: Endpoint) -> tuple[bytes, Unasked | None]:
    """The body of a stream that asks for its counts."""
    if model.config.path is None and _has_options(endpoint):
        body, asked = rewriting.with_usage(body)
        return body, None if asked else Unasked.USAGE
    if model.config.path is not None and endpoint.name in _WITH_TIMINGS and len(body) <= _MOST_ASKED:
        body, asked = rewriting.with_timings(body)
        return body, None if asked else Unasked.TIMINGS
    return body, None


def _has_options(endpoint: Endpoint) -> bool:
    return endpoint.dialect is Dialect.OPENAI and endpoint.name in _WITH_STREAM_OPTIONS


def _named(request: web.Request, content: bytes, model: Model) -> tuple[str, bytes]:
    """Query and body with the name and the parameters that the model's server gets."""
    query = request.rel_url.raw_query_string
    if not model.rewritten:
        return query, content
    config = model.config
    name = None if config.path is not None else config.upstream_name or model.name
    if name is not None:
        query = renaming.in_query(query, name, add=not content)
    content_type = request.headers.get("Content-Type", "")
    return query, renaming.in_body(content, content_type, name, config.set_params, config.strip_params)


def _outgoing(
    request: web.Request, path: str, query: str, body: bytes, endpoint: Endpoint, unasked: Unasked | None = None
) -> Outgoing:
    kept = headers.to_engine(request.raw_headers, read=bool(endpoint.methods))
    fields = b"%bX-Request-Id: %b\r\n" % (kept, request_id(request).encode())
    target = f"{path}?{query}" if query else path
    return Outgoing(request.method, target, fields, body or None, endpoint.dialect, unasked)
