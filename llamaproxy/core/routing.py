"""From the request line and body to: which endpoint is this, whose dialect, which model is meant.

Knows llama-server's routes. Does not know which models exist: `models.catalogue` does. Bodies are looked at, never
changed.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice, pairwise
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from llamaproxy.errors import DuplicateModel, InvalidJson, InvalidRequest

MAX_NESTING = 100
MAX_FORM_PARTS = 1000
_SLASHES = re.compile(r"/{2,}")
_BOUNDARY = re.compile(r'boundary=(?:"([^"]+)"|([^\s;"]+))', re.IGNORECASE)
# Anchored to a line: anywhere else, one line of a large form would be searched once for each of its bytes.
_MODEL_FIELD = re.compile(rb'\r\ncontent-disposition:[^\r\n]*;[ \t]*name="?model"?[ \t]*(?:;|\r\n)', re.IGNORECASE)


class Dialect(StrEnum):
    """Whose rules the answer's errors and events follow."""

    OPENAI = "openai"
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"
    NATIVE = "native"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of the engine's routes; `light` ones do not occupy a slot.

    `needs` is a field without which the engine answers 500, and `lists` are fields that must be arrays or it does.
    """

    name: str
    dialect: Dialect
    methods: frozenset[str]
    light: bool = False
    needs: str | None = None
    lists: tuple[str, ...] = ()


def _table() -> dict[str, Endpoint]:
    table: dict[str, Endpoint] = {}

    def add(paths: str, dialect: Dialect, methods: str = "POST", light: bool = False, **rules: Any) -> None:
        first, *_ = spelled = paths.split()
        name = first.removeprefix("/v1").lstrip("/")
        table.update(dict.fromkeys(spelled, Endpoint(name, dialect, frozenset(methods.split()), light, **rules)))

    # What b11434 answers with a 500 although the client is at fault: a breaker would count it against the engine.
    tools = ("tools",)
    add("/v1/chat/completions /chat/completions", Dialect.OPENAI, lists=tools)
    add("/v1/completions", Dialect.OPENAI)
    add("/completion /completions", Dialect.NATIVE)
    add("/v1/responses /responses", Dialect.RESPONSES)
    add("/v1/messages", Dialect.ANTHROPIC, needs="messages")
    add("/v1/messages/count_tokens", Dialect.ANTHROPIC, light=True, needs="messages")
    add("/v1/chat/completions/input_tokens /chat/completions/input_tokens", Dialect.OPENAI, light=True, lists=tools)
    add("/v1/responses/input_tokens /responses/input_tokens", Dialect.RESPONSES, light=True)
    add("/v1/embeddings /embeddings /embedding", Dialect.OPENAI)
    add("/v1/rerank /rerank /v1/reranking /reranking", Dialect.OPENAI)
    add("/v1/audio/transcriptions /audio/transcriptions", Dialect.OPENAI)
    add("/infill", Dialect.NATIVE)
    for path in ("/tokenize", "/detokenize"):
        add(path, Dialect.NATIVE, light=True)
    add("/apply-template", Dialect.NATIVE, light=True, lists=tools)
    for path in ("/props", "/lora-adapters"):
        add(path, Dialect.NATIVE, "GET POST", light=True)
    add("/slots", Dialect.NATIVE, "GET", light=True)
    return table


ENDPOINTS: Mapping[str, Endpoint] = _table()
"""Every engine route that takes its model from body or query, by path."""

SLOT = Endpoint("slots/{id}", Dialect.NATIVE, frozenset({"POST"}), light=True)
_UPSTREAM_PREFIX = re.compile(r"/+upstream/+")


def normalise(path: str) -> str:
    """A path as the tables spell it: clients are sloppy with slashes where base URLs are joined."""
    return _SLASHES.sub("/", path).rstrip("/") or "/"


def resolve(path: str) -> tuple[str, Endpoint | None]:
    """The engine route of a normalised path, and the path as the engine spells it: a base without /v1 will do."""
    if path.startswith("/slots/") and path[7:].isdecimal():
        return path, SLOT
    if path not in ENDPOINTS and f"/v1{path}" in ENDPOINTS:
        path = f"/v1{path}"
    return path, ENDPOINTS.get(path)


def upstream(method: str, path: str) -> Endpoint:
    """What a request below /upstream/{model} is, by its method and the rest of its path; reading occupies no slot."""
    _, known = resolve(normalise(path))
    if known:
        return replace(known, name="upstream")
    return Endpoint("upstream", Dialect.NATIVE, frozenset(), light=method in ("GET", "HEAD"))


def touches_slot_files(method: str, target: str) -> bool:
    """Whether the engine would write or read a slot's file for this path and query, however they are spelled."""
    if "slots" not in target and "%" not in target:
        return False
    path, _, query = target.partition("?")
    if method != "POST" or not normalise(unquote(path)).startswith("/slots/"):
        return False
    return parse_qs(query).get("action") != ["erase"]


def below_upstream(raw_path: str) -> str:
    """The raw path without its /upstream/, however many slashes that has."""
    return _UPSTREAM_PREFIX.sub("", raw_path, count=1)


def climbs(raw_path: str) -> bool:
    """Whether some server may take the path for one outside of the address that it is put behind."""
    return ".." in unquote(raw_path).replace("\\", "/").split("/")


def dialect_of(path: str) -> Dialect:
    """Whose error shape a request to this path expects, whether or not the path exists."""
    _, found = resolve(normalise(path))
    return found.dialect if found else Dialect.OPENAI


@dataclass(frozen=True, slots=True)
class Wish:
    """What a body says: `model` is None where it says nothing."""

    model: str | None
    stream: bool


def read_body(body: bytes, content_type: str, endpoint: Endpoint | None = None) -> Wish:
    """Model and stream flag of a JSON or multipart body; an empty body, or an array, has neither.

    Raises InvalidJson, DuplicateModel or InvalidRequest, also where it lacks what the endpoint needs.
    """
    form = bool(body) and is_form(content_type)
    document = _parse(body) if body and not form else {}
    if not isinstance(document, dict | list):
        raise InvalidRequest("the body must be a JSON object")
    fields = document if isinstance(document, dict) else {}
    if endpoint:
        _check(fields, endpoint)
    model = _multipart_model(body, content_type) if form else _text(fields)
    return Wish(model, fields.get("stream") is True)


def _check(fields: dict[str, Any], endpoint: Endpoint) -> None:
    """Forms have none of these fields: nobody who needs one takes a form."""
    if endpoint.needs and endpoint.needs not in fields:
        raise InvalidRequest(f"`{endpoint.needs}` is required", param=endpoint.needs)
    for name in endpoint.lists:
        if not isinstance(fields.get(name), list | None):
            raise InvalidRequest(f"`{name}` must be an array", param=name)


def is_form(content_type: str) -> bool:
    return content_type.lower().startswith("multipart/form-data")


def _parse(body: bytes) -> Any:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from error
    if body.count(b"[") + body.count(b"{") > MAX_NESTING and _deeper_than(document, MAX_NESTING):
        raise InvalidJson(f"the body is nested more than {MAX_NESTING} levels deep")
    # A model key that is spelled twice could mean one model to us and another to the engine. One that is spelled with
    # escapes has one of these in it: other escapes are common, and the second parser is slow.
    if (body.count(b'"model"') > 1 or b"\\u006" in body) and isinstance(document, dict) and _model_keys(body) > 1:
        raise DuplicateModel("the body names `model` more than once", param="model")
    return document


def _deeper_than(document: Any, limit: int) -> bool:
    level = [document]
    for _ in range(limit):
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _model_keys(body: bytes) -> int:
    """How often the outermost object has the key; the hook sees that object last."""
    keys: list[str] = []

    def remember(pairs: list[tuple[str, Any]]) -> None:
        keys[:] = [key for key, _ in pairs]

    json.loads(body, object_pairs_hook=remember)
    return keys.count("model")


def _text(document: dict[str, Any]) -> str | None:
    model = document.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidRequest("`model` must be a string", param="model")
    return model or None


def _multipart_model(body: bytes, content_type: str) -> str | None:
    """The value of the form field `model`."""
    found = model_part(body, content_type)
    return body[found].decode("utf-8", "replace") or None if found else None


def model_part(body: bytes, content_type: str) -> slice | None:
    """Where the value of a form's field `model` stands. Raises DuplicateModel, or InvalidRequest."""
    found = [slice(start, end) for head, start, end in _parts(body, content_type) if _MODEL_FIELD.search(head)]
    if len(found) > 1:
        raise DuplicateModel("the form names `model` more than once", param="model")
    return found[0] if found else None


def boundary_line(content_type: str) -> bytes:
    """What parts of a form begin with. Raises InvalidRequest."""
    if not (boundary := _BOUNDARY.search(content_type)):
        raise InvalidRequest("the form's content type has no boundary")
    return b"--" + (boundary[1] or boundary[2]).encode("utf-8", "surrogateescape")


def _parts(body: bytes, content_type: str) -> Iterator[tuple[bytes, int, int]]:
    """The head of each part of a form, and where its content begins and ends."""
    line = re.escape(boundary_line(content_type))
    marks = list(islice(re.finditer(rb"(?:\A|\r\n)" + line, body), MAX_FORM_PARTS + 2))
    if len(marks) > MAX_FORM_PARTS + 1:
        raise InvalidRequest(f"the form has more than {MAX_FORM_PARTS} parts")
    if not marks or not body.startswith(b"--", marks[-1].end()):
        raise InvalidRequest("the form is not complete")
    for mark, following in pairwise(marks):
        blank = body.find(b"\r\n\r\n", mark.end(), following.start())
        if blank >= 0:
            yield body[mark.end() : blank + 2], blank + 4, following.start()
