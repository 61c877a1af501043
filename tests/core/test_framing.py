"""Ends of bodies, however the bytes come."""

import itertools

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.core.framing import (
    MAX_LINE,
    Body,
    BodyUntilClose,
    ChunkedBody,
    LongBody,
    body_of,
    chunk,
    whole_chunks,
)
from llamaproxy.core.response import BadResponse, parse

CHUNKED = b"5\r\nhello\r\nA;ext=1\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n"


def told(*pieces: bytes) -> object:
    """What is told of these pieces, and where that leaves the reader."""
    parts: list[bytes] = []
    body = ChunkedBody(parts.append)
    try:
        for piece in pieces:
            body.feed(piece)
    except BadResponse as error:
        return str(error)
    return b"".join(parts), body.between_chunks, body.ended


def fed(body: Body, *pieces: bytes) -> bool:
    for piece in pieces:
        body.feed(piece)
    return body.ended


def chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("field", "kind"),
    [(b"Content-Length: 3", LongBody), (b"Transfer-Encoding: chunked", ChunkedBody), (b"X: y", BodyUntilClose)],
)
def test_head_says_which(field: bytes, kind: type) -> None:
    assert isinstance(body_of(parse(b"HTTP/1.1 200 OK\r\n" + field + b"\r\n\r\n", False)), kind)
    nothing = body_of(parse(b"HTTP/1.1 204 OK\r\n" + field + b"\r\n\r\n", False))
    assert nothing.ended


@pytest.mark.parametrize(
    "data",
    [b"", b"\r\n", b"0\r\n\r\n", b"2\r\nabc\r\n", b"3\r\nabc", b"3\r\nabcd\r", b" 3\r\nabc\r\n", b"03\r\nabc\r\n"],
)
def test_what_is_not_one_whole_chunk_as_engines_send_it_is_read_step_by_step(data: bytes) -> None:
    assert told(data) == told(*(data[at : at + 1] for at in range(len(data))))


@pytest.mark.parametrize("size", [1, 15, 16, 255, 256, 4095, 4096, 65_535, 65_536])
def test_a_chunk_in_one_piece_is_told_in_one(size: int) -> None:
    for content in (bytes(size), (b"1\r\nx\r\n" * size)[:size], (b"\r\n" * size)[:size]):
        parts: list[bytes] = []
        body = ChunkedBody(parts.append)
        body.feed(chunk(content))
        assert (parts, body.between_chunks, body.ended) == ([content], True, False)


@pytest.mark.parametrize("length", [*range(1, 300), 4103, 65_544])
def test_a_piece_of_any_length_may_be_malformed(length: int) -> None:
    for data in (b"\r\n" * length, bytes(length), b"g\r\n" * length):
        with pytest.raises(BadResponse):
            ChunkedBody().feed(data[: length - 2] + b"\r\n")


@pytest.mark.parametrize(
    "data",
    [b"", b"\r\n", b"0\r\n\r\n", b"2\r\nabc\r\n", b"3\r\nabc", b"3\r\nabcd\r", b" 3\r\nabc\r\n", b"03\r\nabc\r\n"],
)
def test_several_chunks_are_whole_or_none(data: bytes) -> None:
    several = chunk(b"ab") + chunk(b"x" * 300) + chunk(b"\n\n")
    assert whole_chunks(several) == b"ab" + b"x" * 300 + b"\n\n"
    if data:
        assert whole_chunks(several + data) == whole_chunks(data + several) == b""


class TestLong:
    def test_it_ends_with_its_last_byte(self) -> None:
        assert not fed(LongBody(5), b"hell")
        assert fed(LongBody(5), b"hell", b"o")
        assert LongBody(0).ended

    def test_one_byte_more_is_refused(self) -> None:
        with pytest.raises(BadResponse):
            fed(LongBody(5), b"hello!")

    def test_close_is_the_end_of_a_whole_one_only(self) -> None:
        (whole := LongBody(1)).feed(b"x")
        whole.close()
        with pytest.raises(BadResponse):
            LongBody(1).close()


@pytest.mark.parametrize("body", [LongBody(9), BodyUntilClose()])
def test_bodies_without_chunks_have_no_place_for_more(body: Body) -> None:
    body.feed(b"some")
    assert (body.between_chunks, body.insert(b"more")) == (False, b"")


def test_until_close_everything_belongs_to_it() -> None:
    body = BodyUntilClose()
    assert not fed(body, b"anything", b"\r\n\r\n")
    body.close()
    assert body.ended


class TestChunked:
    def test_it_ends_after_the_trailers(self) -> None:
        assert not fed(ChunkedBody(), CHUNKED[:-1])
        assert fed(ChunkedBody(), CHUNKED)
        assert fed(ChunkedBody(), b"0\r\n\r\n")

    @given(st.lists(st.integers(0, len(CHUNKED)), max_size=20))
    def test_any_pieces_are_the_same(self, cuts: list[int]) -> None:
        edges = [0, *sorted(cuts), len(CHUNKED)]
        pieces = [CHUNKED[start:end] for start, end in itertools.pairwise(edges)]
        assert fed(ChunkedBody(), *pieces)

    def test_what_follows_is_refused(self) -> None:
        with pytest.raises(BadResponse):
            fed(ChunkedBody(), CHUNKED + b"H")
        with pytest.raises(BadResponse):
            fed(ChunkedBody(), CHUNKED, b"HTTP/1.1 200 OK\r\n\r\n")

    @pytest.mark.parametrize(
        "data",
        [
            b"\r\n",
            b" 5\r\n",
            b"5 x\r\n",
            b"0x5\r\n",
            b"-5\r\n",
            b"+5\r\n",
            b"5\n",
            b"5\r\r\n",
            b"g\r\n",
            b"5;a=\x00\r\n",
            b"f" * 16 + b"\r\n",
            b"3\r\nabcd\r\n",
            b"3\r\nabc\n",
            b"3\r\nabc\rX\r\n",
            b"0\r\nno trailer\r\n",
            b"0\r\n :x\r\n",
        ],
    )
    def test_malformed(self, data: bytes) -> None:
        with pytest.raises(BadResponse):
            fed(ChunkedBody(), data)

    def test_nothing_between_chunks_grows_without_bound(self) -> None:
        with pytest.raises(BadResponse):
            fed(ChunkedBody(), b"5;" + b"x" * MAX_LINE)
        with pytest.raises(BadResponse):
            fed(ChunkedBody(), b"0\r\n", *[b"a: b\r\n"] * MAX_LINE)

    def test_close_is_no_end(self) -> None:
        with pytest.raises(BadResponse):
            ChunkedBody().close()
        (whole := ChunkedBody()).feed(CHUNKED)
        whole.close()

    @given(st.lists(st.integers(0, len(CHUNKED)), max_size=20))
    def test_payload_is_told_without_its_framing(self, cuts: list[int]) -> None:
        told: list[bytes] = []
        edges = [0, *sorted(cuts), len(CHUNKED)]
        assert fed(ChunkedBody(told.append), *(CHUNKED[start:end] for start, end in itertools.pairwise(edges)))
        assert b"".join(told) == b"hello0123456789"

    @given(st.integers(0, len(CHUNKED)), st.binary(min_size=1, max_size=30))
    def test_what_is_inserted_is_the_next_thing_that_is_read(self, cut: int, content: bytes) -> None:
        told: list[bytes] = []
        (body := ChunkedBody()).feed(CHUNKED[:cut])
        inserted = body.insert(content)
        reader = ChunkedBody(told.append)
        reader.feed(CHUNKED[:cut])
        before = b"".join(told)
        reader.feed(inserted)
        assert b"".join(told) == before + (content if inserted else b"")
        assert inserted or body.ended or cut, "there is always a place at the beginning"

    def test_it_knows_when_it_is_between_chunks(self) -> None:
        (body := ChunkedBody()).feed(b"")
        between = [body.between_chunks]
        for byte in b"3;x\r\nabc\r\n0\r\n\r\n":
            body.feed(bytes([byte]))
            between.append(body.between_chunks)
        assert [at for at, yes in enumerate(between) if yes] == [0, 10]

    def test_there_is_no_place_within_a_line_or_after_the_end(self) -> None:
        for begun in (b"5", b"5\r\nhello\r", b"0\r\n", b"0\r\n\r\n"):
            (body := ChunkedBody()).feed(begun)
            assert body.insert(b"x") == b""
        for begun in (b"", b"5\r\n", b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r\n"):
            (body := ChunkedBody()).feed(begun)
            assert body.insert(b"x")

    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.lists(st.integers(0, 300), max_size=8))
    def test_other_implementation_finds_the_same_end(self, parts: list[bytes], cuts: list[int]) -> None:
        data = chunks(*parts)
        ours, other = ChunkedBody(), _other()
        edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        for start, end in itertools.pairwise(edges):
            ours.feed(data[start:end])
            if start < end:
                other.receive_data(data[start:end])
        events = []
        while not isinstance(event := other.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data)
            events.append(bytes(event.data))
        assert ours.ended
        assert b"".join(events) == b"".join(parts)

    @given(st.binary(max_size=200))
    def test_anything_is_followed_or_refused(self, data: bytes) -> None:
        body = ChunkedBody()
        try:
            body.feed(data)
        except BadResponse:
            return
        if body.ended:
            other = _other()
            other.receive_data(data)
            event: object = None
            while not isinstance(event, h11.EndOfMessage):
                event = other.next_event()
                assert event is not h11.NEED_DATA


def _other() -> h11.Connection:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert isinstance(connection.next_event(), h11.Response)
    return connection
