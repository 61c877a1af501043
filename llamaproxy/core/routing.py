"""From the request line to: which endpoint is this, and whose dialect.

Knows llama-server's routes. Does not know which models exist: `models.catalogue` does; nor what bodies say: `wish`.
"""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qs, unquote

_SLASHES = re.compile(r"/{2,}")


class Dialect(StrEnum):
    """Whose rules the answer's errors and events follow."""

    OPENAI = "openai"
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"
    NATIVE = "native"
    OLLAMA = "ollama"


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
    _, known = resolve(normalise(_meant(path)))
    if known:
        return replace(known, name="upstream")
    return Endpoint("upstream", Dialect.NATIVE, frozenset(), light=method in ("GET", "HEAD"))


def _meant(raw_path: str) -> str:
    """The path as servers read it: decoded, and without the parts that mean nothing."""
    decoded = unquote(raw_path)
    return posixpath.normpath(decoded) if "/." in decoded else decoded


def acts_on_slots(method: str, target: str) -> bool:
    """Whether the engine would do something with a slot, however that is spelled."""
    if method != "POST" or ("slots" not in target and "%" not in target):
        return False
    return normalise(_meant(target.partition("?")[0])).startswith("/slots/")


def touches_slot_files(target: str) -> bool:
    """Whether that may write or read a file: everything but erasing does.

    The query decides where there is no body: an action in a form would count before it.
    """
    return parse_qs(target.partition("?")[2]).get("action") != ["erase"]


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
