"""What the body of a request asks for: its model, whether it streams, and what its endpoint cannot do without.

Owns which bodies are refused. Bodies are looked at, never changed, and of large ones no whole copy is made.
"""

from typing import Any

import orjson

from llamaproxy.core.forms import is_form, model_part
from llamaproxy.core.members import members
from llamaproxy.core.routing import Endpoint
from llamaproxy.core.skeleton import MARK, PIECE, skeleton
from llamaproxy.errors import DuplicateModel, InvalidJson, InvalidRequest

MAX_NESTING = 100
_SHORT = 4 * 1024
"""Pairs of brackets in as many bytes as are soon searched for them."""
_BACKSLASH = ord("\\")
_LARGE = 2 * PIECE
"""Bytes from which looking for long strings costs less than it saves."""


Wish = tuple[str | None, bool]
"""What a body says: which model, None where it says nothing, and whether it wants a stream."""


def read(body: bytes, content_type: str, endpoint: Endpoint | None = None) -> Wish:
    """Model and stream flag of a JSON or multipart body; an empty body, or an array, has neither.

    Raises InvalidJson, DuplicateModel or InvalidRequest, also where it lacks what the endpoint needs.
    """
    form = bool(body) and is_form(content_type)
    document = _document(body) if body and not form else {}
    fields = document if isinstance(document, dict) else {}
    if endpoint:
        _check(fields, endpoint)
    model = _form_model(body, content_type) if form else _model(fields)
    return model, fields.get("stream") is True


def _check(fields: dict[str, Any], endpoint: Endpoint) -> None:
    """Forms have none of these fields: nobody who needs one takes a form."""
    if endpoint.needs and endpoint.needs not in fields:
        raise InvalidRequest(f"`{endpoint.needs}` is required", param=endpoint.needs)
    for name in endpoint.lists:
        if fields.get(name) is not None and not isinstance(fields[name], list):
            raise InvalidRequest(f"`{name}` must be an array", param=name)


def _model(fields: dict[str, Any]) -> str | None:
    model = fields.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidRequest("`model` must be a string", param="model")
    return model or None


def _form_model(body: bytes, content_type: str) -> str | None:
    found = model_part(body, content_type)
    return body[found.start : found.stop].decode("utf-8", "replace") or None if found else None


def _document(body: bytes) -> dict[str, Any] | list[Any]:
    """What the body holds, which may lack the insides of long strings, but not of the model's name."""
    return (_abridged(body) if len(body) >= _LARGE else None) or _parse(body)


def _abridged(body: bytes) -> dict[str, Any] | list[Any] | None:
    """What the body holds, without the insides of long strings; None where only the whole body can tell."""
    bones = skeleton(body)
    if not bones.cuts:
        return None
    try:
        document = _parse(bones.text)
    except InvalidJson:
        # Its own words would tell of places that are none in the body.
        return None
    name = document.get("model") if isinstance(document, dict) else None
    return None if isinstance(name, str) and MARK.decode() in name else document


def _parse(text: bytes) -> dict[str, Any] | list[Any]:
    try:
        document: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from error
    if not isinstance(document, (dict, list)):
        raise InvalidRequest("the body must be a JSON object")
    if _brackets(text) > MAX_NESTING and _deeper_than(document, MAX_NESTING):
        raise InvalidJson(f"the body is nested more than {MAX_NESTING} levels deep")
    # A model key that is spelled twice could mean one model to us and another to the engine.
    if isinstance(document, dict) and _names_models(text) > 1:
        raise DuplicateModel("the body names `model` more than once", param="model")
    return document


def _brackets(text: bytes) -> int:
    """At least as many as it is deep; counting them in a long text costs more than looking at what they hold."""
    pairs = len(text) // 2
    return text.count(b"[") + text.count(b"{") if MAX_NESTING < pairs < _SHORT else pairs


def _deeper_than(document: dict[str, Any] | list[Any], limit: int) -> bool:
    level: list[Any] = [document]
    for _ in range(limit):
        level = [
            inner
            for value in level
            for inner in (value.values() if type(value) is dict else value)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return True


def _names_models(text: bytes) -> int:
    """How often the outermost object has the key `model`, or 1 where it cannot have it twice."""
    # Where one is spelled with escapes it has one of these in it. A single byte is found much faster than five, and of
    # bytes `in` asks first whether they are a number, at the price of an exception.
    escaped = _BACKSLASH in text and text.find(b"\\u006") >= 0
    if not escaped and text.count(b'"model"') < 2:
        return 1
    return sum(member.key == "model" for member in members(text))
