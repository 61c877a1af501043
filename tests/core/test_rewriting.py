"""llamaproxy.core.rewriting: some members change, and no other byte."""

import json
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.core.rewriting import rewrite, with_timings, with_usage


@pytest.mark.parametrize(
    ("body", "put", "drop", "rewritten"),
    [
        (b'{ "a" : 1.10 , "b":2}', {"b": [3]}, [], b'{ "a" : 1.10 , "b":[3]}'),
        (b'{"a":1}', {"b": None, "c": "x"}, [], b'{"b":null,"c":"x","a":1}'),
        (b" { }", {"b": True}, [], b' {"b":true }'),
        (b'{"a":1, "b":2, "c":3}', {}, ["a"], b'{"b":2, "c":3}'),
        (b'{"a":1, "b":2, "c":3}', {}, ["b"], b'{"a":1, "c":3}'),
        (b'{"a":1, "b":2, "c":3 }', {}, ["c"], b'{"a":1, "b":2 }'),
        (b'{"a":1, "b":2, "c":3}', {}, ["b", "c"], b'{"a":1}'),
        (b'{"a":1, "b":2, "c":3}', {}, ["a", "c"], b'{"b":2}'),
        (b'{ "a":1, "b":2 }', {}, ["a", "b", "z"], b"{  }"),
        (b'{"a":1}', {"b": 2}, ["a"], b'{"b":2}'),
        (b'{"a":1,"b":2}', {"a": 3}, ["a", "b"], b'{"a":3}'),
        (b'{"a":1,"b":2,"a":3}', {}, ["a"], b'{"b":2}'),
        (b'{"a":1,"b":2,"a":3}', {"a": 4}, [], b'{"a":4,"b":2,"a":4}'),
        (b'{"\\u0061":1,"x":{"a":1}}', {"a": 2}, [], b'{"\\u0061":2,"x":{"a":1}}'),
        (b'{"a":1}', {}, ["z"], b'{"a":1}'),
        (b"{}", {}, ["z"], b"{}"),
        (b"[1]", {"a": 1}, ["b"], b"[1]"),
        (b"", {"a": 1}, ["b"], b""),
    ],
)
def test_members_are_put_and_dropped(body: bytes, put: dict[str, Any], drop: list[str], rewritten: bytes) -> None:
    assert rewrite(body, put, drop) == rewritten


KEYS = st.sampled_from("abcdef")
VALUES = st.none() | st.integers() | st.text(max_size=5) | st.just("x" * 40_000) | st.lists(st.integers(), max_size=3)


@given(
    st.dictionaries(KEYS, VALUES),
    st.dictionaries(KEYS, st.integers(0, 9)),
    st.sets(KEYS),
    st.none() | st.integers(0, 2),
)
def test_any_object(document: dict[str, Any], put: dict[str, int], drop: set[str], indent: int | None) -> None:
    body = json.dumps(document, indent=indent).encode()
    expected = {key: value for key, value in document.items() if key not in drop} | put
    assert json.loads(rewrite(body, put, drop)) == expected


@pytest.mark.parametrize(
    ("body", "with_it", "asked"),
    [
        (b'{"n":1.0}', b'{"stream_options":{"include_usage":true},"n":1.0}', False),
        (b"{ }", b'{"stream_options":{"include_usage":true} }', False),
        (b'{"stream_options":null}', b'{"stream_options":{"include_usage":true}}', False),
        (b'{"stream_options":{}}', b'{"stream_options":{"include_usage":true}}', False),
        (b'{"stream_options": {"include_usage" : false}}', b'{"stream_options": {"include_usage" : true}}', False),
        (b'{"stream_options":{"x":1.0}}', b'{"stream_options":{"include_usage":true,"x":1.0}}', False),
        (b'{"x":"\\u00e9"}', b'{"stream_options":{"include_usage":true},"x":"\\u00e9"}', False),
        (
            b'{"x":{"stream_options":{"include_usage":true}}}',
            b'{"stream_options":{"include_usage":true},"x":{"stream_options":{"include_usage":true}}}',
            False,
        ),
        (b'{"stream_options":{"include_usage":true}}', None, True),
        (b'{"stre\\u0061m_options":{"include_usage":true}}', None, True),
        (b'{"stream_options":5}', None, False),
        (b"[]", None, False),
        (b"", None, False),
    ],
)
def test_usage_is_asked_for(body: bytes, with_it: bytes | None, asked: bool) -> None:
    """None: the body stays as it is."""
    assert with_usage(body) == (body if with_it is None else with_it, asked)


def test_the_last_of_several_counts_as_it_does_for_the_engine() -> None:
    body = b'{"stream_options":{"include_usage":true},"stream_options":{"include_usage":false}}'
    rewritten, asked = with_usage(body)
    assert (orjson.loads(rewritten)["stream_options"], asked) == ({"include_usage": True}, False)


@pytest.mark.parametrize(
    ("body", "with_them"),
    [
        (b'{"a": 1.10}', b'{"a": 1.10,"timings_per_token":true}'),
        (b' {"a":{"b":2} } \n', b' {"a":{"b":2} ,"timings_per_token":true} \n'),
        (b"{}", b'{"timings_per_token":true}'),
        (b'{"a":"\\u00e9"}', b'{"a":"\\u00e9","timings_per_token":true}'),
        (b'{"a":{"timings_per_token":false}}', b'{"a":{"timings_per_token":false},"timings_per_token":true}'),
        (b'{"timings_per_token":true}', None),
        (b'{"timings_per_token":false,"a":1}', None),
        (b'{"timings_per_tok\\u0065n":true}', None),
        (b"[1]", None),
        (b"--form\r\n}", None),
        (b"", None),
    ],
)
def test_timings_are_asked_for_at_the_end(body: bytes, with_them: bytes | None) -> None:
    """None: the body stays as it is."""
    assert with_timings(body) == ((body, True) if with_them is None else (with_them, False))


def test_a_large_body_is_copied_once() -> None:
    body = orjson.dumps({"picture": "x" * 4_000_000, "model": "m"})
    tracemalloc.start()
    try:
        assert len(rewrite(body, {"model": "n", "top_k": 1}, ["seed"])) == len(body) + len('"top_k":1,')
        assert tracemalloc.get_traced_memory()[1] < 1.2 * len(body)
    finally:
        tracemalloc.stop()
