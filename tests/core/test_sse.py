"""Events of a stream, however its bytes come; compared with the standard's own algorithm, line by line."""

import re
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.core import sse
from llamaproxy.core.sse import MAX_EVENT, Event, Splitter, parse

from . import recorded
from .recorded import CUTS, Recording, pieces, single

LINES = st.sampled_from(
    [
        b"",
        b"data: x",
        b"data:",
        b"data",
        b"data:  two",
        b": comment",
        b"event: e",
        b"id: 1",
        b"data: \xe2\x82\xac",
        b"x:y",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS), max_size=12).map(lambda lines: b"".join(a + b for a, b in lines))


class Collected(Splitter):
    """What it was told, in order."""

    def __new__(cls, most: int = MAX_EVENT) -> Self:
        if not str(sse.__file__).endswith(".py"):
            pytest.skip("no class of the tests can extend a compiled one")
        return super().__new__(cls)

    def __init__(self, most: int = MAX_EVENT) -> None:
        super().__init__(most)
        self.blocks: list[bytes] = []
        self.fragments: list[bytes] = []
        self.everything = b""

    def block(self, block: bytes) -> None:
        self.blocks.append(block)
        self.everything += block

    def fragment(self, part: bytes) -> None:
        self.fragments.append(part)
        self.everything += part


def collected(parts: list[bytes], most: int = MAX_EVENT) -> Collected:
    splitter = Collected(most)
    for part in parts:
        splitter.feed(part)
    splitter.end()
    return splitter


def events(parts: list[bytes]) -> list[Event]:
    return [event for block in collected(parts).blocks if (event := parse(block))]


def by_the_standard(stream: bytes) -> list[Event]:
    """Section 9.2.6, read aloud: lines first, then fields, and a blank line dispatches."""
    found: list[Event] = []
    name, data = b"", b""
    *lines, _ = re.split(rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf"))
    for line in lines:
        if not line:
            if data:
                found.append(Event(name, data[:-1]))
            name, data = b"", b""
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            data += value + b"\n"
        elif field == b"event":
            name = value
    return found


@given(STREAMS, CUTS)
def test_events_are_those_of_the_standard_however_they_are_cut(stream: bytes, cuts: list[int]) -> None:
    assert events(pieces(stream, cuts)) == by_the_standard(stream)


@given(STREAMS)
def test_even_byte_by_byte_and_with_a_byte_order_mark(stream: bytes) -> None:
    assert events(single(b"\xef\xbb\xbf" + stream)) == by_the_standard(stream)


@given(st.binary(max_size=200) | STREAMS, CUTS, st.integers(1, 50))
def test_every_byte_is_passed_on_once_and_in_order(stream: bytes, cuts: list[int], most: int) -> None:
    assert collected(pieces(stream, cuts), most).everything == stream


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("recording", recorded.STREAMS, ids=lambda recording: recording.name)
def test_line_ends_make_no_difference(recording: Recording, end: bytes) -> None:
    stream = recording.content.replace(b"\n", end)
    assert events([stream]) == events(single(stream)) == by_the_standard(recording.content)


def test_an_event_is_told_with_its_last_byte_and_not_later() -> None:
    splitter = Collected()
    for part in (b"data: a\n\n", b"data: b\n", b"\n", b"data: c\r\n\r\n", b"data: d\r\r"):
        splitter.feed(part)
        assert len(splitter.held) in (0, len(b"data: b\n"))
    assert [event.data for block in splitter.blocks if (event := parse(block))] == [b"a", b"b", b"c", b"d"]


def test_what_is_left_at_the_end_is_no_event() -> None:
    assert collected([b"data: a\n\ndata: b\n"]).blocks == [b"data: a\n\n"]
    assert collected([b"data: a\n\ndata: b\n"]).fragments == [b"data: b\n"]


class TestBound:
    LARGE = b"data: " + b"x" * 100 + b"\n\n"

    @given(CUTS, ENDS)
    def test_larger_events_are_passed_over_and_the_next_is_found(self, cuts: list[int], end: bytes) -> None:
        stream = (b"data: a\n\n" + self.LARGE + b"data: b\n\n" + self.LARGE).replace(b"\n", end)
        told = collected(pieces(stream, cuts), most=60)
        assert [event.data for block in told.blocks if (event := parse(block))] == [b"a", b"b"]
        assert told.everything == stream

    def test_an_event_of_just_that_size_is_none_of_them(self) -> None:
        for parts in ([self.LARGE], single(self.LARGE)):
            assert collected(parts, most=len(self.LARGE)).blocks == [self.LARGE]
            assert collected(parts, most=len(self.LARGE) - 1).blocks == []

    def test_no_more_than_that_is_kept(self) -> None:
        splitter = Collected(most=60)
        for _ in range(1000):
            splitter.feed(b"data: endless")
            assert len(splitter.held) <= 60 + len(b"data: endless")


class TestParse:
    @pytest.mark.parametrize(
        "block", [b"\n\n", b": still here\n\n", b"id: 7\n\n", b"retry: 10\n\n", b"event: e\n\n", b""]
    )
    def test_no_data_is_no_event(self, block: bytes) -> None:
        assert parse(block) is None

    def test_several_lines_of_data_are_one_text(self) -> None:
        assert parse(b"event: e\ndata: a\ndata:b\r\ndata:  c\r\r") == Event(b"e", b"a\nb\n c")
