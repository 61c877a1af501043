"""Every framing of an engine becomes one that the client reads."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.core.framing import ChunkedBody, chunk
from llamaproxy.core.response import Framing
from llamaproxy.core.stripping import Unasked
from llamaproxy.server.outlet import AsIs, Rechunked, Unchunked, outlet

CHUNKED = b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"


def content(data: bytes) -> tuple[bytes, bool]:
    """What a reader of chunks gets, and whether it saw the end."""
    parts: list[bytes] = []
    (body := ChunkedBody(parts.append)).feed(data)
    return b"".join(parts), body.ended


@pytest.mark.parametrize(
    ("framing", "to_chunks", "to_close", "kind"),
    [
        (Framing.CHUNKED, False, False, AsIs),
        (Framing.CHUNKED, True, False, AsIs),
        (Framing.CHUNKED, False, True, Unchunked),
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
    pieces = [chunk(event) for event in events] + [b"0\r\n\r\n"] if framing is Framing.CHUNKED else events
    sent = b"".join(map(way.through, pieces)) + way.end()
    chunks = not to_close and (framing is Framing.CHUNKED or to_chunks)
    assert (content(sent) if chunks else (sent, True)) == (events[0] + events[2], True)


@pytest.mark.parametrize("unasked", Unasked)
def test_counts_stay_in_what_has_a_length(unasked: Unasked) -> None:
    assert type(outlet(Framing.LENGTH, False, False, unasked=unasked)) is AsIs


class TestTimings:
    """Of llama-server's tokens, which mostly come as one event in one chunk."""

    EVENT = b'data: {"choices":[{"finish_reason":null,"delta":{"content":"a"}}]%b}\n\n'
    WITH, WITHOUT = EVENT % b',"timings":{"cache_n":1,"predicted_n":2}', EVENT % b""

    def out(self, *pieces: bytes, framing: Framing = Framing.CHUNKED, **way: bool) -> tuple[list[bytes], bytes]:
        this = outlet(framing, way.get("to_chunks", False), way.get("to_close", False), Unasked.TIMINGS)
        return [this.through(piece) for piece in pieces], this.end()

    def test_an_event_in_a_chunk_goes_on_at_once_and_in_a_chunk(self) -> None:
        raw = [chunk(self.WITH), chunk(self.WITHOUT), chunk(self.WITH), b"0\r\n\r\n"]
        assert self.out(*raw) == ([*[chunk(self.WITHOUT)] * 3, b""], b"0\r\n\r\n")

    def test_several_that_come_together_go_on_together(self) -> None:
        together = chunk(self.WITH) + chunk(self.WITHOUT) + chunk(self.WITH)
        assert self.out(together, b"0\r\n\r\n") == ([chunk(self.WITHOUT * 3), b""], b"0\r\n\r\n")

    def test_an_end_among_them_keeps_its_own(self) -> None:
        last = self.WITH.replace(b"null", b'"stop"')
        ((sent,), _) = self.out(chunk(self.WITH) + chunk(last))
        assert content(sent + b"0\r\n\r\n") == (self.WITHOUT + last, True)

    def test_chunks_of_a_byte_each_are_no_events(self) -> None:
        sent, end = self.out(*(chunk(self.WITH[at : at + 1]) for at in range(len(self.WITH))), b"0\r\n\r\n")
        assert content(b"".join(sent) + end) == (self.WITHOUT, True)

    def test_what_has_none_is_not_even_copied(self) -> None:
        for raw in (chunk(self.WITHOUT), chunk(self.WITHOUT) * 2):
            ((same,), _) = self.out(raw)
            assert same is raw

    @pytest.mark.parametrize("way", [{}, {"to_chunks": True}, {"to_close": True}], ids=str)
    @given(cuts=st.lists(st.integers(0, 700)), framing=st.sampled_from([Framing.CHUNKED, Framing.CLOSE]))
    def test_cut_anywhere(self, way: dict[str, bool], cuts: list[int], framing: Framing) -> None:
        chunked = framing is Framing.CHUNKED
        events = [self.WITH * 2, self.WITH, self.WITHOUT, self.WITH[:9], self.WITH[9:] + self.WITH]
        raw = b"".join(map(chunk, events)) + b"0\r\n\r\n" if chunked else b"".join(events)
        places = [0, *sorted(cuts), len(raw)]
        sent, end = self.out(*(raw[a:b] for a, b in pairwise(places)), framing=framing, **way)
        whole = b"".join(sent) + end
        in_chunks = not way.get("to_close") and (chunked or way.get("to_chunks"))
        assert (content(whole) if in_chunks else (whole, True)) == (self.WITHOUT * 6, True)


def test_what_needs_no_change_is_not_even_copied() -> None:
    data = b"5\r\nhello\r\n"
    assert AsIs().through(data) is data
    assert AsIs().end() == b""


def test_nothing_is_added_to_what_has_a_length() -> None:
    assert outlet(Framing.LENGTH, False, False).insert(b"x") == b""
    assert outlet(Framing.CLOSE, False, False).insert(b"x") == b"x"
    assert outlet(Framing.LENGTH, False, True).insert(b"x") == b"x"


def test_chunks_are_unpacked() -> None:
    unchunked = Unchunked()
    assert unchunked.through(CHUNKED[:6]) + unchunked.through(CHUNKED[6:]) == b"hello!"
    assert (unchunked.insert(b"x"), unchunked.end()) == (b"x", b"")


def test_content_is_packed() -> None:
    rechunked = Rechunked()
    sent = rechunked.through(b"hello") + rechunked.through(b"") + rechunked.insert(b"!")
    assert content(sent) == (b"hello!", False)
    assert content(sent + rechunked.end()) == (b"hello!", True)
