"""Every framing of an engine becomes one that the client reads."""

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.core.framing import ChunkedBody, chunk
from llamaproxy.core.response import Framing
from llamaproxy.core.stripping import Unasked
from llamaproxy.server.outlet import AsIs, Content, Outlet, Rechunked, outlet
from tests.core import recorded
from tests.core.recorded import CUTS, Recording, pieces, single

FRAMED = pytest.mark.parametrize("recording", recorded.FRAMED, ids=lambda recording: recording.name)


def content(data: bytes) -> tuple[bytes, bool]:
    """What a reader of chunks gets, and whether it saw the end."""
    parts: list[bytes] = []
    (body := ChunkedBody(parts.append)).feed(data)
    return b"".join(parts), body.ended


def contents(pieces: list[bytes]) -> list[bytes]:
    """What the engine's connection tells of these pieces of a chunked body."""
    parts: list[bytes] = []
    body = ChunkedBody(parts.append)
    for piece in pieces:
        body.feed(piece)
    return parts


def whole(way: Outlet, parts: list[bytes]) -> bytes:
    return b"".join([*map(way.through, parts), way.end()])


def read(raw: bytes) -> bytes:
    """The content, by two readers who have to agree, and be at its end."""
    found, ended = content(raw)
    assert ended
    other = h11.Connection(h11.CLIENT)
    other.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    other.send(h11.EndOfMessage())
    other.receive_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + raw)
    events = []
    while not isinstance(event := other.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Response | h11.Data)
        events.append(event)
    assert b"".join(bytes(event.data) for event in events if isinstance(event, h11.Data)) == found
    return found


@pytest.mark.parametrize(
    ("framing", "to_chunks", "to_close", "kind"),
    [
        (Framing.CHUNKED, False, False, AsIs),
        (Framing.CHUNKED, True, False, AsIs),
        (Framing.CHUNKED, False, True, Content),
        (Framing.LENGTH, False, False, AsIs),
        (Framing.LENGTH, True, False, Rechunked),
        (Framing.LENGTH, False, True, AsIs),
        (Framing.CLOSE, False, False, AsIs),
        (Framing.CLOSE, True, False, Rechunked),
        (Framing.CLOSE, False, True, AsIs),
    ],
)
def test_which_one_is_needed(framing: Framing, to_chunks: bool, to_close: bool, kind: type) -> None:
    assert type(outlet(framing, to_chunks, to_close)) is kind


@pytest.mark.parametrize("framing", [Framing.CHUNKED, Framing.CLOSE])
@pytest.mark.parametrize(("to_chunks", "to_close"), [(False, False), (True, False), (False, True)])
def test_usage_is_taken_out_of_any_framing(framing: Framing, to_chunks: bool, to_close: bool) -> None:
    events = [b'data: {"choices":[1]}\n\n', b'data: {"choices":[],"usage":{}}\n\n', b"data: [DONE]\n\n"]
    way = outlet(framing, to_chunks, to_close, unasked=Unasked.USAGE)
    sent = whole(way, events)
    chunks = not to_close and (framing is Framing.CHUNKED or to_chunks)
    assert (content(sent) if chunks else (sent, True)) == (events[0] + events[2], True)


@pytest.mark.parametrize("unasked", Unasked)
def test_counts_stay_in_what_has_a_length(unasked: Unasked) -> None:
    assert type(outlet(Framing.LENGTH, False, False, unasked=unasked)) is AsIs


class TestTimings:
    """Of llama-server's tokens, which mostly come as one event in one chunk."""

    EVENT = b'data: {"choices":[{"finish_reason":null,"delta":{"content":"a"}}]%b}\n\n'
    WITH, WITHOUT = EVENT % b',"timings":{"cache_n":1,"predicted_n":2}', EVENT % b""

    def out(self, *parts: bytes, framing: Framing = Framing.CHUNKED, **way: bool) -> tuple[list[bytes], bytes]:
        this = outlet(framing, way.get("to_chunks", False), way.get("to_close", False), Unasked.TIMINGS)
        return [this.through(part) for part in parts], this.end()

    def test_an_event_goes_on_at_once_and_in_a_chunk(self) -> None:
        assert self.out(self.WITH, self.WITHOUT, self.WITH) == ([chunk(self.WITHOUT)] * 3, b"0\r\n\r\n")

    def test_several_that_come_together_go_on_together(self) -> None:
        assert self.out(self.WITH + self.WITHOUT + self.WITH) == ([chunk(self.WITHOUT * 3)], b"0\r\n\r\n")

    def test_an_end_among_them_keeps_its_own(self) -> None:
        last = self.WITH.replace(b"null", b'"stop"')
        ((sent,), _) = self.out(self.WITH + last)
        assert content(sent + b"0\r\n\r\n") == (self.WITHOUT + last, True)

    @pytest.mark.parametrize("way", [{}, {"to_chunks": True}, {"to_close": True}], ids=str)
    @given(cuts=st.lists(st.integers(0, 700)), framing=st.sampled_from([Framing.CHUNKED, Framing.CLOSE]))
    def test_cut_anywhere(self, way: dict[str, bool], cuts: list[int], framing: Framing) -> None:
        events = b"".join([self.WITH * 2, self.WITH, self.WITHOUT, self.WITH[:9], self.WITH[9:] + self.WITH])
        places = [0, *sorted(cuts), len(events)]
        sent, end = self.out(*(events[a:b] for a, b in pairwise(places)), framing=framing, **way)
        told = b"".join(sent) + end
        in_chunks = not way.get("to_close") and (framing is Framing.CHUNKED or way.get("to_chunks"))
        assert (read(told) if in_chunks else told) == self.WITHOUT * 6


class TestChunks:
    """From the engine's chunks to the client's."""

    @FRAMED
    @given(cuts=CUTS)
    def test_the_extra_event_is_gone_and_the_framing_is_good(self, recording: Recording, cuts: list[int]) -> None:
        way = outlet(Framing.CHUNKED, False, False, Unasked.USAGE)
        assert read(whole(way, contents(pieces(recording.raw, cuts)))) == without_extra(recording.content)

    @FRAMED
    def test_even_byte_by_byte(self, recording: Recording) -> None:
        way = outlet(Framing.CHUNKED, False, False, Unasked.USAGE)
        assert read(whole(way, contents(single(recording.raw)))) == without_extra(recording.content)

    def test_an_event_begun_at_the_end_goes_on_with_the_end(self) -> None:
        way = outlet(Framing.CHUNKED, False, False, Unasked.USAGE)
        assert whole(way, [b"data: x"]) == chunk(b"data: x") + b"0\r\n\r\n"


def without_extra(stream: bytes) -> bytes:
    """Told in another way: by what the text of an event has in it."""
    events = [event + b"\n\n" for event in stream.split(b"\n\n")[:-1]]
    return b"".join(event for event in events if not event.startswith(b'data: {"choices":[],'))


def test_what_needs_no_change_is_not_even_copied() -> None:
    data = b"5\r\nhello\r\n"
    assert AsIs().through(data) is data
    assert AsIs().end() == b""


def test_nothing_is_added_to_what_has_a_length() -> None:
    assert outlet(Framing.LENGTH, False, False).insert(b"x") == b""
    assert outlet(Framing.CLOSE, False, False).insert(b"x") == b"x"
    assert outlet(Framing.LENGTH, False, True).insert(b"x") == b"x"


def test_content_is_content() -> None:
    way = Content()
    assert (way.through(b"hello"), way.insert(b"x"), way.end()) == (b"hello", b"x", b"")


def test_content_is_packed() -> None:
    rechunked = Rechunked()
    sent = rechunked.through(b"hello") + rechunked.through(b"") + rechunked.insert(b"!")
    assert content(sent) == (b"hello!", False)
    assert content(sent + rechunked.end()) == (b"hello!", True)
