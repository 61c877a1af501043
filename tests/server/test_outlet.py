"""Every framing of an engine becomes one that the client reads."""

import pytest

from llamaproxy.core.framing import ChunkedBody
from llamaproxy.core.response import Framing
from llamaproxy.server.outlet import AsChunked, AsIs, Rechunked, Unchunked, outlet

CHUNKED = b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"


def content(data: bytes) -> tuple[bytes, bool]:
    """What a reader of chunks gets, and whether it saw the end."""
    parts: list[bytes] = []
    (body := ChunkedBody(parts.append)).feed(data)
    return b"".join(parts), body.ended


@pytest.mark.parametrize(
    ("framing", "to_chunks", "to_close", "kind"),
    [
        (Framing.CHUNKED, False, False, AsChunked),
        (Framing.CHUNKED, True, False, AsChunked),
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


def test_what_needs_no_change_is_not_even_copied() -> None:
    data = b"5\r\nhello\r\n"
    assert AsChunked().through(data) is data
    assert AsIs().through(data) is data
    assert (AsIs().insert(b"x"), AsIs().end(), AsChunked().end()) == (b"x", b"", b"")


def test_chunks_are_unpacked() -> None:
    unchunked = Unchunked()
    assert unchunked.through(CHUNKED[:6]) + unchunked.through(CHUNKED[6:]) == b"hello!"
    assert (unchunked.insert(b"x"), unchunked.end()) == (b"x", b"")


def test_content_is_packed() -> None:
    rechunked = Rechunked()
    sent = rechunked.through(b"hello") + rechunked.through(b"") + rechunked.insert(b"!")
    assert content(sent) == (b"hello!", False)
    assert content(sent + rechunked.end()) == (b"hello!", True)


def test_something_can_be_added_where_chunks_broke_off() -> None:
    broken = AsChunked()
    sent = broken.through(CHUNKED[:6])
    assert content(sent + broken.insert(b"<error>")) == (b"hel<error>", False)
