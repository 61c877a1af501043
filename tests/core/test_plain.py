"""llamaproxy.core.plain: what it takes, others read alike; most of what there is it leaves to them.

Second opinions: both parsers of aiohttp with the gateway's limits and judgement, and h11.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import h11
import pytest
from aiohttp import HttpVersion11, http_parser
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.core import plain, request_head, routing
from tests.faults.framings import corpus
from tests.server.test_inbound_hostile import MALFORMED, OTHERWISE_REFUSED

PARSERS = [http_parser.HttpRequestParserC, http_parser.HttpRequestParserPy]
LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"
HOST = b"Host: localhost\r\n"
LENGTH = b"Content-Length: 2\r\n"
ORDINARY = LINE + HOST + b"Content-Type: application/json\r\n" + LENGTH + b"\r\n{}"


@dataclass(frozen=True, slots=True)
class Message:
    target: str
    fields: list[tuple[bytes, bytes]]
    body: bytes


def taken(data: bytes) -> Message | None:
    """What a whole request is to the module, with its length where all fields are told without an order."""
    frame = plain.frame(data)
    found = plain.read(frame[0]) if frame else None
    if frame is None or found is None or len(frame[1]) < frame[2]:
        return None
    body = frame[1][: frame[2]]
    return Message(found[0], sorted([*found[1], (b"content-length", b"%d" % len(body))]), body)


def parsed(data: bytes, parser: Callable[..., Any]) -> Message:
    """What the long way makes of exactly one request; whatever else it makes of it is a failure."""
    loop = asyncio.new_event_loop()
    try:
        protocol = BaseProtocol(loop)
        reader = parser(
            protocol,
            loop,
            2**16,
            max_line_size=request_head.LONGEST_TARGET,
            max_field_size=request_head.LONGEST_FIELD,
            max_headers=request_head.MOST_FIELDS,
        )
        protocol._parser = reader
        ((message, payload),), upgraded, tail = reader.feed_data(data)
        body = b"".join(payload._buffer) if payload.total_bytes else b""
        assert payload.is_eof()
    finally:
        loop.close()
    assert (message.method, message.version, upgraded, tail) == ("POST", HttpVersion11, False, b"")
    assert not (message.should_close or message.compression or message.upgrade or message.chunked)
    assert request_head.check(message.method, message.path, message.version, message.headers) is None
    assert request_head.check_lengths(message.raw_headers) is None
    assert message.url.raw_path_qs == message.path
    return Message(message.path, _sorted(message.raw_headers), body)


def read_by_another(data: bytes) -> Message:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request = cast(h11.Request, connection.next_event())
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert connection.trailing_data[0] == b""
    return Message(request.target.decode(), _sorted(request.headers.raw_items()), body)


def _sorted(fields: Any) -> list[tuple[bytes, bytes]]:
    return sorted((b"content-length" if name.lower() == b"content-length" else name, value) for name, value in fields)


def check(data: bytes) -> bool:
    """Whether it is taken; then everybody else must agree, about as many bytes."""
    if (frame := plain.frame(data)) is None or (found := taken(data)) is None:
        return False
    whole = data[: data.index(b"\r\n\r\n") + 4 + frame[2]]
    assert found == parsed(whole, PARSERS[0]) == parsed(whole, PARSERS[1]) == read_by_another(whole)
    return True


@pytest.mark.parametrize("path", [path for path, found in routing.ENDPOINTS.items() if "POST" in found.methods])
@pytest.mark.parametrize("length", [b"Content-Length", b"content-length"])
def test_requests_for_the_engines_routes_are_plain(path: str, length: bytes) -> None:
    data = ORDINARY.replace(b"/v1/chat/completions", path.encode()).replace(b"Content-Length", length)
    assert check(data)


@pytest.mark.parametrize(
    "field",
    [
        b"Connection: keep-alive",
        b"connection: Keep-Alive",
        b"Authorization: Bearer sk-1 2  3",
        b"X: y",
        b"!#$%&'*+.^_`|~09AZaz-: \"(),/:;<=>?@[\\]{}",
        b"Accept: text/event-stream, */*;q=0.1",
    ],
)
def test_plain_fields(field: bytes) -> None:
    assert check(LINE + HOST + field + b"\r\n" + LENGTH + b"\r\n{}")


def test_the_length_may_stand_anywhere() -> None:
    assert check(LINE + LENGTH + HOST + b"\r\n{}")
    assert check(LINE + HOST + LENGTH + b"\r\n{}")


def test_bodies_may_be_of_any_bytes() -> None:
    assert check(LINE + HOST + b"Content-Length: 0\r\n\r\n")
    assert check(LINE + HOST + b"Content-Length: 9\r\n\r\n\r\n\r\n\x00\xff\r\n\n")
    assert check(LINE + HOST + b"Content-Length: %d\r\n\r\n" % plain.LONGEST_BODY + b"x" * plain.LONGEST_BODY)


def test_heads_of_one_client_are_the_same_but_for_their_lengths() -> None:
    one, other = plain.frame(ORDINARY), plain.frame(ORDINARY.replace(b": 2", b": 345"))
    assert one and other and one[0] == other[0]
    assert (one[2], other[2]) == (2, 345)


@pytest.mark.parametrize(
    "data",
    [
        ORDINARY.replace(b"POST", b"GET"),
        ORDINARY.replace(b"POST", b"post"),
        ORDINARY.replace(b"HTTP/1.1", b"HTTP/1.0"),
        ORDINARY.replace(b" HTTP", b"  HTTP"),
        ORDINARY.replace(b" HTTP", b"/ HTTP"),
        ORDINARY.replace(b" HTTP", b"?model=m HTTP"),
        ORDINARY.replace(b" /v1", b" //v1"),
        ORDINARY.replace(b" /v1", b" http://localhost/v1"),
        ORDINARY.replace(b"chat", b"%63hat"),
        ORDINARY.replace(b"/v1/chat/completions", b"/api/chat"),
        ORDINARY.replace(b"/v1/chat/completions", b"/slots"),
        b"\r\n" + ORDINARY,
        ORDINARY.replace(b"\r\n", b"\n"),
        ORDINARY.replace(HOST, b""),
        ORDINARY.replace(HOST, HOST + HOST),
        ORDINARY.replace(HOST, b"Host:localhost\r\n"),
        ORDINARY.replace(HOST, b"Host:  localhost\r\n"),
        ORDINARY.replace(HOST, b"Host: localhost \r\n"),
        ORDINARY.replace(HOST, b"Host: \r\n"),
        ORDINARY.replace(HOST, b"Host:\tlocalhost\r\n"),
        ORDINARY.replace(HOST, b"Host : localhost\r\n"),
        ORDINARY.replace(HOST, HOST + b" folded\r\n"),
        ORDINARY.replace(LENGTH, b""),
        ORDINARY.replace(LENGTH, LENGTH + LENGTH),
        ORDINARY.replace(LENGTH, LENGTH + b"content-length: 2\r\n"),
        ORDINARY.replace(LENGTH, LENGTH + b"CONTENT-LENGTH: 2\r\n"),
        ORDINARY.replace(LENGTH, b"CONTENT-LENGTH: 2\r\n"),
        *(ORDINARY.replace(b": 2", length) for length in (b": +2", b": 02", b": 2 ", b": 2,2", b":2", b": 0x2", b": ")),
        LINE + HOST + b"Content-Length: %d\r\n\r\n" % (plain.LONGEST_BODY + 1) + b"x" * (plain.LONGEST_BODY + 1),
        *(
            ORDINARY.replace(HOST, HOST + field + b"\r\n")
            for field in (
                b"Connection: close",
                b"Connection: keep-alive, X",
                b"Connection: Upgrade",
                b"Proxy-Connection: keep-alive",
                b"Upgrade: websocket",
                b"Expect: 100-continue",
                b"Transfer-Encoding: chunked",
                b"Content-Encoding: gzip",
                b"Trailer: X",
                b"Sec-WebSocket-Key1: x",
                b"X: \xc3\xa9",
                b"X: \xff",
                b"X: y\xa0z",
                b"X: a\tb",
                b"X: a\x00b",
                b"X: y\r\nx: z",
                b"X",
                b"X(): y",
                b": y",
            )
        ),
        LINE + HOST + b"".join(b"X-%d: y\r\n" % number for number in range(plain.MOST_FIELDS)) + LENGTH + b"\r\n{}",
        LINE + HOST + b"X: " + b"y" * plain.LONGEST_HEAD + b"\r\n" + LENGTH + b"\r\n{}",
        ORDINARY[:-3],
        b"",
    ],
)
def test_whatever_is_unusual_is_left_to_others(data: bytes) -> None:
    assert taken(data) is None


def test_of_hostile_requests_nothing_is_taken_that_others_read_in_another_way() -> None:
    malformed = [*MALFORMED.values(), *(data for _, data in OTHERWISE_REFUSED.values())]
    for data in malformed:
        assert not check(data.replace(b"POST /v1/completions", LINE[:-11]))
    conversations = [case.data for case in corpus()]
    start = b"POST /upstream/m/fake/body?case=0000 HTTP/1.1\r\n"
    count = sum(check(data.replace(start, LINE)) for data in conversations)
    assert 0 < count < len(conversations) / 5


_BYTES = st.binary(max_size=3) | st.sampled_from([b" ", b"\t", b"\r", b"\n", b"\r\n", b"\x00", b":", b"\x7f", b"\xa0"])
_NAMES = st.sampled_from(
    [b"Host", b"X", b"x", b"Content-Length", b"content-length", b"Connection", b"Transfer-Encoding", b"Accept", b"Te"]
)
_VALUES = st.sampled_from([b"localhost", b"2", b"0", b"02", b"keep-alive", b"close", b"chunked", b"a b", b""])
_PIECES = st.tuples(_NAMES, st.sampled_from([b": ", b":", b" : ", b":  "]), _VALUES, st.sampled_from([b"\r\n", b"\n"]))


@given(st.lists(_PIECES.map(b"".join), max_size=5), st.binary(max_size=4))
def test_heads_of_any_fields(fields: list[bytes], body: bytes) -> None:
    check(LINE + b"".join(fields) + HOST + LENGTH + b"\r\n" + body)
    check(LINE + b"".join(fields) + b"\r\n" + body)


@given(st.integers(0, len(ORDINARY)), _BYTES, st.integers(0, 2))
def test_heads_with_anything_in_them_anywhere(place: int, inserted: bytes, dropped: int) -> None:
    check(ORDINARY[:place] + inserted + ORDINARY[place + dropped :])
