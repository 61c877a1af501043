"""llamaproxy.core.skeleton: what is cut out of long strings, and what stays."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.core.skeleton import MARK, skeleton

PIECE = 64
PICTURE = b"iVBORw0KGgo/" * 100


def left(text: bytes) -> bytes:
    return skeleton(text, PIECE).text


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b'"' + b"x" * PIECE + b'"', b'{"a": "%b"}' % (b'say \\"hi\\" ' * 50), b"[%b1]" % (b"1," * 500), b'"'],
)
def test_without_long_strings_it_is_the_text_itself(text: bytes) -> None:
    assert skeleton(text, PIECE).text is text


@pytest.mark.parametrize(
    "long",
    [PICTURE, b"x" * 2000, "größer und älter ".encode() * 90, "漢字仮名".encode() * 200, b"a whole line\\n" * 200],
    ids=["picture", "letters", "German", "Japanese", "lines"],
)
def test_long_strings_become_short(long: bytes) -> None:
    short = left(b'{"a":"%b","b":"","c":["%b"],"d":1}' % (long, long))
    assert len(short) < 300
    assert set(orjson.loads(short)) == {"a", "b", "c", "d"}


@pytest.mark.parametrize("wrong", [b"\x00", b"\xff", b"\\x", b"\\ud83d", b"\xed\xa0\x80"])
def test_what_is_wrong_in_a_string_stays(wrong: bytes) -> None:
    assert wrong in left(b'{"a":"%b%b%b"}' % (PICTURE, wrong, PICTURE))


@pytest.mark.parametrize("stretch", [b"x", b" ", b",", b"1,", b'":"'[1:2]])
def test_what_stands_between_strings_is_not_made_valid(stretch: bytes) -> None:
    text = b'{"a"%b"b":1}' % (stretch * 500)
    assert MARK in left(text)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(left(text))


def test_an_escaped_quote_at_the_end_of_a_long_stretch_stays_escaped() -> None:
    for slashes in range(1, 5):
        text = b'{"a":"%b%b"%b}' % (PICTURE, b"\\" * slashes, b'"' if slashes % 2 else b"")
        assert list(orjson.loads(left(text))) == list(orjson.loads(text)) == ["a"]


def test_every_quote_may_be_the_beginning() -> None:
    """Two stretches next to each other, in the same string and in two."""
    for between in (b'\\"', b'","', b'\\",\\"'):
        assert len(left(b'["%b%b%b"]' % (PICTURE, between, PICTURE))) < 300


@given(st.lists(st.text(max_size=12) | st.just("x" * 500), max_size=8), st.booleans())
def test_what_is_left_stands_where_it_says(texts: list[str], ascii_only: bool) -> None:
    document: dict[str, Any] = {f"key {number}": text for number, text in enumerate(texts)}
    whole = json.dumps(document, ensure_ascii=ascii_only).encode()
    bones = skeleton(whole, PIECE)
    marks = {place for place in range(len(bones.text)) if bones.text[place : place + 1] == MARK}
    places = [place for place in range(len(bones.text)) if place not in marks]
    assert [whole[place] for place in bones.in_whole(places)] == [bones.text[place] for place in places]
    assert len(whole) - len(bones.text) == sum(cut.stop - cut.start - 1 for cut in bones.cuts)
