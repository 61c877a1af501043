"""Endpoint, dialect and model of a request."""

import pytest

from llamaproxy.core.routing import (
    SLOT,
    Dialect,
    Wish,
    below_upstream,
    dialect_of,
    normalise,
    read_body,
    resolve,
    upstream,
)
from llamaproxy.errors import DuplicateModel, GatewayError, InvalidJson, InvalidRequest

JSON = "application/json"


@pytest.mark.parametrize(
    ("path", "spelled"),
    [("/", "/"), ("//", "/"), ("/v1/models/", "/v1/models"), ("//v1//chat///completions", "/v1/chat/completions")],
)
def test_slashes_are_forgiven(path: str, spelled: str) -> None:
    assert normalise(path) == spelled


@pytest.mark.parametrize(
    ("path", "engine_path", "dialect", "light"),
    [
        ("/v1/chat/completions", "/v1/chat/completions", Dialect.OPENAI, False),
        ("/chat/completions", "/chat/completions", Dialect.OPENAI, False),
        ("/completions", "/completions", Dialect.NATIVE, False),
        ("/responses", "/responses", Dialect.RESPONSES, False),
        ("/v1/messages", "/v1/messages", Dialect.ANTHROPIC, False),
        ("/messages", "/v1/messages", Dialect.ANTHROPIC, False),
        ("/v1/messages/count_tokens", "/v1/messages/count_tokens", Dialect.ANTHROPIC, True),
        ("/tokenize", "/tokenize", Dialect.NATIVE, True),
        ("/v1/audio/transcriptions", "/v1/audio/transcriptions", Dialect.OPENAI, False),
    ],
)
def test_engine_routes(path: str, engine_path: str, dialect: Dialect, light: bool) -> None:
    spelled, endpoint = resolve(path)
    assert endpoint
    assert (spelled, endpoint.dialect, endpoint.light) == (engine_path, dialect, light)


def test_slots_by_number_and_nothing_else() -> None:
    assert resolve("/slots/3") == ("/slots/3", SLOT)
    assert resolve("/slots/x") == ("/slots/x", None)
    assert resolve("/v1/nothing") == ("/v1/nothing", None)


def test_errors_follow_the_dialect_of_the_path_even_where_there_is_nothing() -> None:
    assert dialect_of("//v1/messages/") is Dialect.ANTHROPIC
    assert dialect_of("/nowhere") is Dialect.OPENAI


@pytest.mark.parametrize(
    ("body", "wish"),
    [
        (b"", Wish(None, False)),
        (b"{}", Wish(None, False)),
        (b'{"model": "m", "stream": true}', Wish("m", True)),
        (b'{"model": "m", "stream": "true"}', Wish("m", False)),
        (b'{"model": ""}', Wish(None, False)),
        (b'{"model": null}', Wish(None, False)),
        (b'{"mod\\u0065l": "m"}', Wish("m", False)),
        (b'[{"id": 0, "scale": 1}]', Wish(None, False)),
        (b'{"model": "m", "x": {"model": "inner"}, "y": "\\"model\\""}', Wish("m", False)),
        (b'{"model": "\\u00fc", "text": "\\u0041"}', Wish("ü", False)),
    ],
)
def test_wish_of_a_body(body: bytes, wish: Wish) -> None:
    assert read_body(body, JSON) == wish


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", InvalidJson),
        (b"\xef\xbb\xbf{}", InvalidJson),
        (b'{"a": NaN}', InvalidJson),
        (b'{"a": "\xff"}', InvalidJson),
        (b"[" * 100_000, InvalidJson),
        (b'{"a":' * 101 + b"1" + b"}" * 101, InvalidJson),
        (b'"text"', InvalidRequest),
        (b"1", InvalidRequest),
        (b'{"model": 5}', InvalidRequest),
        (b'{"model": ["m"]}', InvalidRequest),
        (b'{"model": "a", "model": "b"}', DuplicateModel),
        (b'{"model": "a", "mod\\u0065l": "b"}', DuplicateModel),
    ],
)
def test_bodies_that_are_refused(body: bytes, error: type[GatewayError]) -> None:
    with pytest.raises(GatewayError) as refused:
        read_body(body, JSON)
    assert type(refused.value) is error


def test_many_brackets_side_by_side_are_not_deep() -> None:
    body = b'{"model": "m", "messages": [' + b",".join([b'{"content": [{}]}'] * 500) + b"]}"
    assert read_body(body, JSON).model == "m"
    assert read_body(b'{"a":' * 99 + b"1" + b"}" * 99, JSON) == Wish(None, False)


def form(*fields: tuple[str, bytes]) -> bytes:
    parts = (
        b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
        for name, value in fields
    )
    return b"".join(parts) + b"--x--\r\n"


def test_model_of_a_form() -> None:
    kind = "multipart/form-data; boundary=x"
    assert read_body(form(("file", b"\x00RIFF"), ("model", b"whisper")), kind) == Wish("whisper", False)
    assert read_body(form(("file", b"data")), kind) == Wish(None, False)
    assert read_body(form(("model_name", b"no")), kind) == Wish(None, False)
    with pytest.raises(DuplicateModel):
        read_body(form(("model", b"a"), ("model", b"b")), kind)
    with pytest.raises(InvalidRequest):
        read_body(b'--x\r\nContent-Disposition: form-data; name="model"\r\n', kind)


def test_below_upstream_reading_and_known_light_routes_are_light() -> None:
    assert upstream("GET", "/anything").light
    assert not upstream("POST", "/anything").light
    assert upstream("POST", "/tokenize").light
    messages = upstream("POST", "//v1/messages/")
    assert (messages.name, messages.dialect, messages.light) == ("upstream", Dialect.ANTHROPIC, False)


def test_upstream_prefix_is_cut_once_and_the_rest_stays() -> None:
    assert below_upstream("/upstream/m/a//b/") == "m/a//b/"
    assert below_upstream("//upstream//m/upstream/") == "m/upstream/"
