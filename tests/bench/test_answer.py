import pytest

from bench.answer import Answer, BadAnswer

PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n9\r\ndata: b\n\n\r\n0\r\n\r\n"


def read(*parts: bytes) -> Answer:
    answer = Answer()
    for part in parts:
        answer.feed(part)
    return answer


@pytest.mark.parametrize("wire", [PLAIN, CHUNKED])
def test_an_answer_ends_with_its_last_byte_however_it_comes(wire: bytes) -> None:
    parts = [bytes([byte]) for byte in wire]
    assert not read(*parts[:-1]).ended
    assert read(*parts).ended
    assert read(wire).ended


def test_events_are_counted_and_the_end_is_kept() -> None:
    answer = read(CHUNKED)
    assert (answer.status, answer.events, answer.tail) == (200, 2, b"data: a\n\ndata: b\n\n")


def test_an_event_that_is_cut_by_the_framing_is_one_event() -> None:
    answer = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndat\r\n6\r\na: a\n\n\r\n0\r\n\r\n")
    assert (answer.events, answer.ended) == (1, True)


def test_an_answer_without_length_ends_with_its_connection_and_no_other_does() -> None:
    until_close = read(b"HTTP/1.1 200 OK\r\n\r\nhello")
    cut_off = read(CHUNKED[:-5])
    for answer in (until_close, cut_off):
        answer.closed()
    assert until_close.ended
    assert not cut_off.ended


def test_a_server_may_say_that_it_closes() -> None:
    assert read(b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").closes
    assert not read(PLAIN).closes


@pytest.mark.parametrize(
    "wire",
    [PLAIN + b"!", b"SSH-2.0-x\r\n\r\n", CHUNKED.replace(b"9\r\ndata: b", b"nine\r\ndata: b"), b"HTTP/1.1 " * 10_000],
)
def test_what_is_no_http_is_refused(wire: bytes) -> None:
    with pytest.raises(BadAnswer):
        read(wire)
