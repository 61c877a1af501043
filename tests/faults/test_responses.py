"""Responses that somebody has tampered with: what is taken for whole, another implementation reads in the same way.

Source of the second opinion: h11. It may read what is refused here. `make soak` tries many more.
"""

import itertools
import re
from collections.abc import Callable, Sequence

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamaproxy.core.framing import ChunkedBody, body_of
from llamaproxy.core.response import BadResponse, Framing, parse

_CHUNKS = b"5\r\nhello\r\nA;ext=1\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n"
_WHOLE = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nhello, there",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nKeep-Alive: timeout=5, max=100\r\n\r\n" + _CHUNKS,
    b"HTTP/1.1 500 \r\ncontent-length:0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\ndata: 2\n\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
]
_PIECES = [
    *(b"", b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"0", b"1", b"f", b"-", b"+", b"\xff", b"\x0b"),
    *(b"\r\n ", b"\r\n\r\n", b"0\r\n\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"chunked"),
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0", b"identity", b"Content-Length : 3\r\n", b"0x", b"5\r\n", b"X: y\r\n"),
]

_BLANKS = re.compile(rb"^([0-9A-Fa-f]+)[ \t]+;", re.MULTILINE)
"""May stand before the extension of a chunk (RFC 9112, section 7.1.1), and h11 refuses them."""

Reading = tuple[int, bytes]
"""Status and content."""


@st.composite
def tampered(draw: st.DrawFn) -> bytes:
    data = draw(st.sampled_from(_WHOLE))
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(0, 4))
        data = data[:at] + draw(st.sampled_from(_PIECES) | st.binary(max_size=3)) + data[at + length :]
    return data


@pytest.mark.parametrize("data", _WHOLE, ids=range(len(_WHOLE)))
@pytest.mark.parametrize("length", [0, 1], ids=["put in", "instead"])
def test_one_piece_anywhere_is_read_as_another_does_or_refused(data: bytes, length: int) -> None:
    assert _ours(data, ()) == _other(data) is not None
    for at in range(len(data) + 1):
        for piece in _PIECES:
            check(data[:at] + piece + data[at + length :], (at,))


def check(data: bytes, cuts: Sequence[int]) -> None:
    ours = _ours(data, cuts)
    if ours is not None:
        assert _other(data) == ours


def _many(examples: int) -> Callable[[], None]:
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    trying = settings(max_examples=examples, deadline=None, suppress_health_check=slow)
    return trying(given(tampered(), st.lists(st.integers(0, 200), max_size=4))(check))


@pytest.mark.parametrize("examples", [300, pytest.param(100_000, marks=pytest.mark.soak)])
@pytest.mark.timeout(3600)
def test_many_pieces_are_read_as_another_does_or_refused(examples: int) -> None:
    _many(examples)()


def _ours(data: bytes, cuts: Sequence[int]) -> Reading | None:
    """Nothing where it is refused, or not all there when its connection is closed. The body comes in pieces."""
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        return None
    try:
        head = parse(data[:end], False)
        body, content = body_of(head), bytearray()
        payload = ChunkedBody(content.extend).feed if head.framing is Framing.CHUNKED else content.extend
        for piece in _pieces(data[end:], cuts):
            body.feed(piece)
            payload(piece)
        body.close()
    except BadResponse:
        return None
    return (head.status, bytes(content)) if head.status >= 200 else None


def _pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if start < end]


def _other(data: bytes) -> Reading | None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(_BLANKS.sub(rb"\1;", data))
    connection.receive_data(b"")
    status, content = 0, b""
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                content += bytes(event.data)
            else:
                return None
    except h11.ProtocolError:
        return None
    return status, content
