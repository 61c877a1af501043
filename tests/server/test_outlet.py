"""Every framing of an engine becomes one that the client reads."""

import pytest

from llamaproxy.core.framing import ChunkedBody, chunk
from llamaproxy.core.response import Framing
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
    way = outlet(framing, to_chunks, to_close, unasked_usage=True)
    pieces = [chunk(event) for event in events] + [b"0\r\n\r\n"] if framing is Framing.CHUNKED else events
    sent = b"".join(map(way.through, pieces)) + way.end()
    chunks = not to_close and (framing is Framing.CHUNKED or to_chunks)
    assert (content(sent) if chunks else (sent, True)) == (events[0] + events[2], True)


def test_usage_stays_in_what_has_a_length() -> None:
    assert type(outlet(Framing.LENGTH, False, False, unasked_usage=True)) is AsIs


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
