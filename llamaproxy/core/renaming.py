"""A request under the name by which a server elsewhere knows its model.

Puts that name in, and touches no other byte: numbers keep their digits, texts their spelling. What it is given was
read by `routing` before, which refuses bodies that cannot be understood or name a model twice.
"""

import json
import re
from urllib.parse import quote, unquote_plus

import orjson

from llamaproxy.core import routing

_BLANK = re.compile(r"[ \t\n\r]*")
# Numbers are only passed over: converting them takes time, and very long ones are refused.
_read = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode


def in_body(body: bytes, content_type: str, name: str) -> bytes:
    """The JSON object or form with `name` as its model, added where it has none; anything else is left as it is."""
    if routing.is_form(content_type):
        return _in_form(body, content_type, name)
    return _in_object(body, name) if body.lstrip(b" \t\r\n").startswith(b"{") else body


def in_query(query: str, name: str, add: bool) -> str:
    """A raw query with `name` as its model; where it has none, it is added if that is wanted."""
    fields = query.split("&") if query else []
    said = [unquote_plus(field.partition("=")[0]) == "model" for field in fields]
    ours = f"model={quote(name, safe='')}"
    renamed = [ours if is_model else field for field, is_model in zip(fields, said, strict=True)]
    return "&".join(renamed + ([ours] if add and not any(said) else []))


def _in_object(body: bytes, name: str) -> bytes:
    value = orjson.dumps(name)
    # In Latin-1 every byte is a character, so that places in the text are places in the body.
    text = body.decode("latin-1")
    inside = text.index("{") + 1
    if span := _model_value(text, inside):
        return body[: span.start] + value + body[span.stop :]
    more = b"" if text[_blank(text, inside)] == "}" else b","
    return body[:inside] + b'"model":' + value + more + body[inside:]


def _model_value(text: str, at: int) -> slice | None:
    """Where the value of the key `model` stands in the object whose inside begins at `at`."""
    at = _blank(text, at)
    while text[at] != "}":
        key, at = _read(text, at)
        begin = _blank(text, _blank(text, at) + 1)
        _, end = _read(text, begin)
        if key == "model":
            return slice(begin, end)
        at = _blank(text, end)
        at = _blank(text, at + 1) if text[at] == "," else at
    return None


def _blank(text: str, at: int) -> int:
    """The place after the blanks that begin at `at`."""
    found = _BLANK.match(text, at)
    assert found
    return found.end()


def _in_form(body: bytes, content_type: str, name: str) -> bytes:
    value = name.encode()
    if span := routing.model_part(body, content_type):
        return body[: span.start] + value + body[span.stop :]
    line = routing.boundary_line(content_type)
    first = body.index(line)
    return line + b'\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + value + b"\r\n" + body[first:]
