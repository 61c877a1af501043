"""A request as the server of its model gets it: under the name by which that knows the model, with the parameters that
the model's configuration puts into it, and without those that it takes out.

Touches no other byte. What it is given was read by `wish` before, which refuses bodies that cannot be understood or
name a model twice.
"""

from collections.abc import Collection, Mapping
from urllib.parse import quote, unquote_plus

from llamaproxy.core import forms
from llamaproxy.core.rewriting import rewrite

_NOTHING: Mapping[str, object] = {}


def in_body(
    body: bytes,
    content_type: str,
    name: str | None,
    put: Mapping[str, object] = _NOTHING,
    drop: Collection[str] = (),
) -> bytes:
    """The JSON object with `name` as its model, or its own where that is None, and its parameters changed.

    A form gets the name only; anything else is left as it is.
    """
    if forms.is_form(content_type):
        return body if name is None else _in_form(body, content_type, name)
    return rewrite(body, put if name is None else {"model": name, **put}, drop)


def in_query(query: str, name: str, add: bool) -> str:
    """A raw query with `name` as its model; where it has none, it is added if that is wanted."""
    fields = query.split("&") if query else []
    said = [unquote_plus(field.partition("=")[0]) == "model" for field in fields]
    ours = f"model={quote(name, safe='')}"
    renamed = [ours if is_model else field for field, is_model in zip(fields, said, strict=True)]
    return "&".join(renamed + ([ours] if add and not any(said) else []))


def _in_form(body: bytes, content_type: str, name: str) -> bytes:
    value = name.encode()
    if span := forms.model_part(body, content_type):
        return body[: span.start] + value + body[span.stop :]
    line = forms.boundary_line(content_type)
    first = body.index(line)
    return line + b'\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + value + b"\r\n" + body[first:]
