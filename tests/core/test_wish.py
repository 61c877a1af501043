"""llamaproxy.core.wish: what bodies ask for, and which are refused."""

import json
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llamaproxy.core import wish as module
from llamaproxy.core.routing import ENDPOINTS
from llamaproxy.core.skeleton import skeleton
from llamaproxy.core.wish import Wish, read
from llamaproxy.errors import DuplicateModel, GatewayError, InvalidJson, InvalidRequest
from tests.core.test_forms import FORM, form

JSON = "application/json"


@pytest.mark.parametrize(
    ("body", "wish"),
    [
        (b"", (None, False)),
        (b"{}", (None, False)),
        (b'{"model": "m", "stream": true}', ("m", True)),
        (b'{"model": "m", "stream": "true"}', ("m", False)),
        (b'{"model": ""}', (None, False)),
        (b'{"model": null}', (None, False)),
        (b'{"mod\\u0065l": "m"}', ("m", False)),
        (b'[{"id": 0, "scale": 1}]', (None, False)),
        (b'{"model": "m", "x": {"model": "inner"}, "y": "\\"model\\""}', ("m", False)),
        (b'{"model": "\\u00fc", "text": "\\u0041"}', ("ü", False)),
        (b'{"model": "m", "text": "\\u006dodel"}', ("m", False)),
        (b'{"x": [{"model": "inner"}, {"model": "inner"}], "stream": true}', (None, True)),
    ],
)
def test_wish_of_a_body(body: bytes, wish: Wish) -> None:
    assert read(body, JSON) == wish


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", InvalidJson),
        (b"\xef\xbb\xbf{}", InvalidJson),
        (b'{"a": NaN}', InvalidJson),
        (b'{"a": "\xff"}', InvalidJson),
        (b'{"a": "\\ud800"}', InvalidJson),
        (b'{"a": "\x01"}', InvalidJson),
        (b'{"a": ' + b"1" * 5000 + b"}", InvalidJson),
        ('{"model": "m"}'.encode("utf-16"), InvalidJson),
        (b"[" * 100_000, InvalidJson),
        (b'{"a":' * 101 + b"1" + b"}" * 101, InvalidJson),
        (b"[" * 101 + b"]" * 101, InvalidJson),
        (b'"text"', InvalidRequest),
        (b"1", InvalidRequest),
        (b'{"model": 5}', InvalidRequest),
        (b'{"model": ["m"]}', InvalidRequest),
        (b'{"model": "a", "model": "b"}', DuplicateModel),
        (b'{"model": "a", "mod\\u0065l": "b"}', DuplicateModel),
        (b'{"\\u006dodel": "a", "mode\\u006C": "b"}', DuplicateModel),
        (b'{"model": "a", "model": "a"}', DuplicateModel),
        (b'{"model": "a",}', InvalidJson),
        (b'{"model": Infinity}', InvalidJson),
        (b"{} {}", InvalidJson),
        (b"null", InvalidRequest),
        (b'{"model": true}', InvalidRequest),
    ],
)
def test_bodies_that_are_refused(body: bytes, error: type[GatewayError]) -> None:
    with pytest.raises(GatewayError) as refused:
        read(body, JSON)
    assert type(refused.value) is error


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/messages", b"", "messages"),
        ("/v1/messages", b"[]", "messages"),
        ("/v1/messages/count_tokens", b'{"model": "m"}', "messages"),
        ("/v1/chat/completions", b'{"tools": 1}', "tools"),
        ("/chat/completions/input_tokens", b'{"tools": {}}', "tools"),
        ("/apply-template", b'{"tools": "x"}', "tools"),
    ],
)
def test_mistakes_that_the_engine_would_take_for_its_own_are_refused(path: str, body: bytes, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(body, JSON, ENDPOINTS[path])
    assert refused.value.param == field


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", b'{"messages": 1}'),
        ("/v1/chat/completions", b"{}"),
        ("/v1/chat/completions", b'{"tools": null}'),
        ("/v1/chat/completions", b'{"tools": []}'),
        ("/v1/completions", b'{"tools": 1}'),
        ("/props", b""),
    ],
)
def test_what_else_is_wrong_the_engine_says_itself(path: str, body: bytes) -> None:
    assert read(body, JSON, ENDPOINTS[path]) == (None, False)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    body = b'{"model": "m", "messages": [' + b",".join([b'{"content": [{}]}'] * 500) + b"]}"
    assert read(body, JSON)[0] == "m"
    assert read(b'{"a":' * 100 + b"1" + b"}" * 100, JSON) == (None, False)
    assert read(b"[" * 100 + b"]" * 100, JSON) == (None, False)
    assert read(b'{"text": "' + b"[{" * 500 + b'"}', JSON) == (None, False)


@pytest.mark.parametrize("space", [0, 5_000, 20_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_counted_where_brackets_stand_side_by_side(opening: bytes, closing: bytes, space: int) -> None:
    def body(depth: int) -> bytes:
        return opening * (depth - 2) + b"[" + b" " * space + b"[],{}]" + closing * (depth - 2)

    assert read(body(100), JSON) == (None, False)
    with pytest.raises(InvalidJson, match="nested more than 100 levels"):
        read(body(101), JSON)


def test_form_has_nothing_of_what_json_needs() -> None:
    assert read(form(("model", b"m")), FORM, ENDPOINTS["/v1/audio/transcriptions"])[0] == "m"
    with pytest.raises(InvalidRequest):
        read(form(("model", b"m"), ("messages", b"[]")), FORM, ENDPOINTS["/v1/messages"])


@pytest.mark.parametrize(
    ("value", "model"), [("größer".encode(), "größer"), (b"\xff", "\ufffd"), (b"", None), (b"m", "m")]
)
def test_model_of_a_form(value: bytes, model: str | None) -> None:
    assert read(form(("model", value)), FORM) == (model, False)


def test_model_that_is_spelled_twice_is_found_between_nested_ones() -> None:
    nested = b'"x": {"model": "a", "y": [{"model": "b"}]}'
    assert read(b'{"model": "m", %b}' % nested, JSON)[0] == "m"
    with pytest.raises(DuplicateModel):
        read(b'{"model": "m", %b, "model": "n"}' % nested, JSON)


PIECE = 64
PICTURE = "iVBORw0KGgo/" * 30
CHAT = {"messages": [{"role": "user", "content": [{"image_url": {"url": f"data:;base64,{PICTURE}"}}]}], "stream": True}
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text()
LONG = st.builds(lambda text, times: text * times, st.text(max_size=20), st.integers(0, 60))
KEYS = st.text(max_size=8) | st.sampled_from(["model", "stream", "messages", "tools"])
DOCUMENTS = st.recursive(
    SCALARS | LONG, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | LONG, inner, max_size=4)
)
SCRAPS = st.sampled_from(
    [b"", b'"', b"\\", b"*", b"\\u006", b"\xff", b"\x00", b"NaN", b"[", b"}", b",", b"\xc3", b"\\ud83d"]
)


def verdict(body: bytes, large: int) -> object:
    """What is read, or why not. Bodies of `large` bytes and more are read by their skeletons."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LARGE", large)
        patch.setattr(module, "skeleton", lambda text: skeleton(text, PIECE))
        try:
            return read(body, JSON, ENDPOINTS["/v1/chat/completions"])
        except GatewayError as error:
            return type(error), error.message


@given(st.dictionaries(KEYS, DOCUMENTS, max_size=5), st.booleans(), st.none() | st.integers(0, 2), st.data())
@example(CHAT, False, None, None)
@example({"model": PICTURE}, False, None, None)
@example({"messages": [list(range(200))], "model": "m"}, False, None, None)
@example({PICTURE: 1, "model": "m"}, False, None, None)
def test_large_bodies_are_read_as_small_ones_are(
    document: dict[str, Any], ascii_only: bool, indent: int | None, data: st.DataObject | None
) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    if data and data.draw(st.booleans(), "spoil it"):
        at = data.draw(st.integers(0, len(body)), "at")
        body = body[:at] + data.draw(SCRAPS, "by") + body[at + data.draw(st.integers(0, 90), "without") :]
    assert verdict(body, large=0) == verdict(body, large=10**9)


def test_a_picture_costs_no_memory() -> None:
    """A parser that sees all of it makes a second one."""
    body = orjson.dumps(CHAT | {"model": "m", "picture": "x" * 4_000_000})
    tracemalloc.start()
    try:
        assert read(body, JSON) == ("m", True)
        assert tracemalloc.get_traced_memory()[1] < 400_000
    finally:
        tracemalloc.stop()
