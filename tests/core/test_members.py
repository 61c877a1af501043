"""llamaproxy.core.members: keys and values, and where they stand."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.core.members import members

PIECE = 64


def told(text: bytes) -> list[tuple[str, bytes]]:
    return [(member.key, text[member.value]) for member in members(text, PIECE)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"{}", []),
        (b" \r\n{ \t} ", []),
        (b"[1]", []),
        (b"", []),
        (b'"a"', []),
        (b'{"a":1}', [("a", b"1")]),
        (b' { "a" : [ 1 , {"b":2} ] , "c" : null } ', [("a", b'[ 1 , {"b":2} ]'), ("c", b"null")]),
        (b'{"a":"x","a":"y"}', [("a", b'"x"'), ("a", b'"y"')]),
        (b'{"\\u0061\\"":1.10e-0}', [('a"', b"1.10e-0")]),
        (b'{"a":"\\\\","b":"}\\""}', [("a", b'"\\\\"'), ("b", b'"}\\""')]),
        (b'{"n":' + b"1" * 5000 + b"}", [("n", b"1" * 5000)]),
        (b'{"\xc3\xa9":"\xc3\xa9","b":1}', [("\u00c3\u00a9", b'"\xc3\xa9"'), ("b", b"1")]),
    ],
)
def test_members(text: bytes, found: list[tuple[str, bytes]]) -> None:
    assert told(text) == found


def test_keys_tell_where_they_are() -> None:
    text = b'{"a":1, "b":2}'
    assert [text[member.at :][:3] for member in members(text)] == [b'"a"', b'"b"']


VALUES = st.recursive(
    st.none() | st.integers() | st.text() | st.just("x" * 500) | st.just([[1, 2]] * 90),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.dictionaries(st.text('abc*"\\', max_size=9), VALUES, max_size=6), st.booleans(), st.none() | st.just(1))
def test_values_are_those_of_a_parser(document: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    assert {key: json.loads(value) for key, value in told(text)} == document
    assert [key for key, _ in told(text)] == list(document)


def test_numbers_between_strings_are_no_obstacle() -> None:
    """They look like the inside of a string, from afar."""
    text = orjson.dumps({"prompt": [list(range(50))] * 50, "model": "m"})
    assert told(text)[1] == ("model", b'"m"')
