"""llamaproxy.core.renaming: one name changes, and no other byte."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.core import wish
from llamaproxy.core.renaming import in_body, in_query

JSON = "application/json"
FORM = "multipart/form-data; boundary=xx"


@pytest.mark.parametrize(
    ("body", "renamed"),
    [
        (b'{"model":"a"}', b'{"model":"org/new"}'),
        (b' \r\n{ "model" : "a" , "n" : 1 } ', b' \r\n{ "model" : "org/new" , "n" : 1 } '),
        (b'{"seed":123456789012345678901234567890,"model":"a","t":1.10e-0}',
         b'{"seed":123456789012345678901234567890,"model":"org/new","t":1.10e-0}'),
        (b'{"tools":[{"model":"x"}],"model":"a"}', b'{"tools":[{"model":"x"}],"model":"org/new"}'),
        (b'{"prompt":"\\"model\\":\\"x\\" \\u00e9\xc3\xa9","model":"a"}',
         b'{"prompt":"\\"model\\":\\"x\\" \\u00e9\xc3\xa9","model":"org/new"}'),
        (b'{"m\\u006fdel":"a"}', b'{"m\\u006fdel":"org/new"}'),
        (b'{"model":null}', b'{"model":"org/new"}'),
        (b'{"n":1}', b'{"model":"org/new","n":1}'),
        (b'{"a":{"model":"x"}}', b'{"model":"org/new","a":{"model":"x"}}'),
        (b"{ }", b'{"model":"org/new" }'),
        (b"[1]", b"[1]"),
        (b"", b""),
    ],
)  # fmt: skip
def test_objects(body: bytes, renamed: bytes) -> None:
    assert in_body(body, JSON, "org/new") == renamed


def test_a_number_too_long_to_convert_is_no_obstacle() -> None:
    body = b'{"n":' + b"1" * 5000 + b',"model":"a"}'
    assert in_body(body, JSON, "b") == body.replace(b'"a"', b'"b"')


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.just("model"), inner, max_size=4),
)


@given(
    st.dictionaries(st.text(), VALUES, max_size=5), st.none() | st.text(min_size=1), st.text(min_size=1), st.booleans()
)
def test_any_object_means_the_same_but_for_its_model(
    document: dict[str, Any], old: str | None, new: str, ascii_only: bool
) -> None:
    document.pop("model", None)
    before = {**document, **({"model": old} if old is not None else {})}
    body = json.dumps(before, ensure_ascii=ascii_only, indent=1).encode()
    renamed = in_body(body, JSON, new)
    assert orjson.loads(renamed) == orjson.loads(body) | {"model": new}
    assert wish.read(renamed, JSON)[0] == new


def form(*parts: str) -> bytes:
    return b"".join(f"--xx\r\n{part}\r\n".encode() for part in parts) + b"--xx--\r\n"


FILE = 'Content-Disposition: form-data; name="file"; filename="model"\r\n\r\nname="model" RIFF'


def test_forms() -> None:
    named = 'Content-Disposition: form-data; name="model"\r\n\r\n{}'
    body = form(FILE, named.format("old"))
    assert in_body(body, FORM, "org/new") == form(FILE, named.format("org/new"))
    assert in_body(form(FILE), FORM, "org/new") == form(named.format("org/new"), FILE)
    assert in_body(b"preamble\r\n" + form(FILE), FORM, "n") == form(named.format("n"), FILE)
    assert wish.read(in_body(form(FILE), FORM, "n"), FORM)[0] == "n"


@pytest.mark.parametrize(
    ("query", "add", "renamed"),
    [
        ("model=a", False, "model=org%2Fn%26w"),
        ("x=1&model=a%20b&y=%20", True, "x=1&model=org%2Fn%26w&y=%20"),
        ("mod%65l=a", True, "model=org%2Fn%26w"),
        ("model", False, "model=org%2Fn%26w"),
        ("models=a", False, "models=a"),
        ("x=1", True, "x=1&model=org%2Fn%26w"),
        ("", True, "model=org%2Fn%26w"),
        ("", False, ""),
    ],
)
def test_queries(query: str, add: bool, renamed: str) -> None:
    assert in_query(query, "org/n&w", add) == renamed
