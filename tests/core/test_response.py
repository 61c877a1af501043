"""Heads of responses: what is understood, and what is refused because it could be understood in two ways."""

import itertools

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.core.response import (
    MAX_FIELDS,
    MAX_HEAD,
    MAX_INTERIM,
    BadResponse,
    Framing,
    Head,
    HeadReader,
    parse,
)


def head(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join((status, *lines, "", "")).encode("latin-1")


def framing(*lines: str, status: str = "HTTP/1.1 200 OK", to_head: bool = False) -> tuple[Framing, int]:
    parsed = parse(head(*lines, status=status), to_head)
    return parsed.framing, parsed.length


def test_status_reason_and_fields_come_as_they_are() -> None:
    parsed = parse(head("Content-Type:  text/plain ", "X-Empty:", "x-b: caf\xe9\t!", "Content-Length: 5"), False)
    assert parsed == Head(
        200,
        b"OK",
        ((b"Content-Type", b"text/plain"), (b"X-Empty", b""), (b"x-b", b"caf\xe9\t!"), (b"Content-Length", b"5")),
        Framing.LENGTH,
        5,
        True,
        b"text/plain",
    )


@pytest.mark.parametrize(
    ("field", "kind"),
    [("Content-Type: Text/Event-Stream; charset=utf-8", b"text/event-stream"), ("X-Type: text/html", b"")],
)
def test_content_type_is_told_as_it_is_compared(field: str, kind: bytes) -> None:
    assert parse(head(field, "Content-Length: 5"), False).content_type == kind


@pytest.mark.parametrize("status", ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.0 599 So Long"])
def test_reason_may_be_missing(status: str) -> None:
    assert parse(head(status=status), False).status in (200, 599)


@pytest.mark.parametrize(
    "status",
    [
        "",
        "HTTP/1.1",
        "HTTP/2 200 OK",
        "HTTP/1.1 099 x",
        "HTTP/1.1 20 x",
        "HTTP/1.1 2000 x",
        "http/1.1 200 OK",
        " HTTP/1.1 200 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 200 O\x00K",
        "HTTP/1.1 200 a\nb: c",
        "garbage",
    ],
)
def test_malformed_status_lines(status: str) -> None:
    with pytest.raises(BadResponse):
        parse(head(status=status), False)


@pytest.mark.parametrize(
    "line",
    [
        "no colon",
        ": nameless",
        "Name : x",
        " folded: x",
        "\tfolded",
        "a: \x00",
        "a: b\rc",
        "a: b\nc",
        "a\xe9: b",
        "(): b",
    ],
)
def test_malformed_fields(line: str) -> None:
    with pytest.raises(BadResponse):
        parse(head("X: y", line), False)


def test_number_of_fields_is_bounded() -> None:
    parse(head(*["a: b"] * MAX_FIELDS), False)
    with pytest.raises(BadResponse):
        parse(head(*["a: b"] * (MAX_FIELDS + 1)), False)


def test_end_of_the_body() -> None:
    assert framing("Content-Length: 7") == (Framing.LENGTH, 7)
    assert framing("Content-Length: 7", "content-length: 7") == (Framing.LENGTH, 7)
    assert framing("Transfer-Encoding: Chunked") == (Framing.CHUNKED, 0)
    assert framing() == (Framing.CLOSE, 0)


@pytest.mark.parametrize("status", ["HTTP/1.1 100 x", "HTTP/1.1 204 x", "HTTP/1.1 304 x"])
def test_some_have_no_body_whatever_they_say(status: str) -> None:
    assert framing("Content-Length: 7", status=status) == (Framing.NONE, 0)
    assert framing("Content-Length: 7", to_head=True) == (Framing.NONE, 0)
    assert framing("Transfer-Encoding: chunked", to_head=True) == (Framing.NONE, 0)


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 7", "Content-Length: 8"),
        ("Content-Length: 7, 7",),
        ("Content-Length: +7",),
        ("Content-Length: -7",),
        ("Content-Length: 0x7",),
        ("Content-Length:",),
        ("Content-Length: " + "9" * 19,),
        ("Content-Length: 7", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: gzip",),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: chunked, chunked",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding:",),
    ],
)
def test_bodies_that_could_end_in_two_places(lines: tuple[str, ...]) -> None:
    with pytest.raises(BadResponse):
        framing(*lines)


def test_old_protocol_knows_no_chunks() -> None:
    with pytest.raises(BadResponse):
        framing("Transfer-Encoding: chunked", status="HTTP/1.0 200 OK")


@pytest.mark.parametrize(
    ("status", "lines", "persistent"),
    [
        ("HTTP/1.1 200 OK", ("Content-Length: 0",), True),
        ("HTTP/1.1 200 OK", ("Content-Length: 0", "Connection: Close"), False),
        ("HTTP/1.1 200 OK", ("Content-Length: 0", "Connection: x, close"), False),
        ("HTTP/1.1 200 OK", ("Content-Length: 0", "Connection: x", "Connection: close"), False),
        ("HTTP/1.0 200 OK", ("Content-Length: 0",), False),
        ("HTTP/1.0 200 OK", ("Content-Length: 0", "Connection: keep-alive"), True),
        ("HTTP/1.1 200 OK", (), False),
    ],
)
def test_connections_that_may_be_used_again(status: str, lines: tuple[str, ...], persistent: bool) -> None:
    assert parse(head(*lines, status=status), False).persistent is persistent


def test_same_head_is_parsed_once() -> None:
    assert parse(head("X: y"), False) is parse(head("X: y"), False)
    assert parse(head("X: y"), False) is not parse(head("X: y"), True)
    assert parse(large := head("X: " + "y" * 3000), False) is not parse(large, False)


NAMES = st.sampled_from(["Content-Length", "Transfer-Encoding", "Connection", "X-A", "content-length"])
VALUES = st.sampled_from(["5", "05", "5, 5", "-1", "chunked", "Chunked", "identity", "close", "keep-alive", "", "x y"])


@given(st.integers(102, 599), st.lists(st.tuples(NAMES, VALUES), max_size=5), st.booleans())
def test_what_is_accepted_another_parser_understands_in_the_same_way(
    status: int, fields: list[tuple[str, str]], to_head: bool
) -> None:
    data = head(*(f"{name}: {value}" for name, value in fields), status=f"HTTP/1.1 {status} x")
    try:
        ours = parse(data, to_head)
    except BadResponse:
        return
    other = h11.Connection(h11.CLIENT)
    other.send(h11.Request(method="HEAD" if to_head else "GET", target="/", headers=[("Host", "x")]))
    other.send(h11.EndOfMessage())
    other.receive_data(data)
    event = other.next_event()
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    assert event.status_code == ours.status
    if isinstance(event, h11.InformationalResponse):
        return
    ended = isinstance(other.next_event(), h11.EndOfMessage)
    assert ended == (ours.framing is Framing.NONE or (ours.framing is Framing.LENGTH and ours.length == 0))


@given(st.binary(max_size=300))
def test_anything_is_parsed_or_refused(data: bytes) -> None:
    try:
        parse(b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n", False)
    except BadResponse:
        return


ANSWER = head("X: y", "Content-Length: 5")
INTERIM = head("Link: x", status="HTTP/1.1 103 Hints")
SWITCHED = head("Upgrade: websocket", status="HTTP/1.1 101 Switching Protocols")


class TestHeadReader:
    @given(st.integers(0, MAX_INTERIM), st.lists(st.integers(0, 400), max_size=6))
    def test_any_pieces_are_the_same(self, interim: int, cuts: list[int]) -> None:
        data = INTERIM * interim + ANSWER
        edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
        reader = HeadReader()
        assert [reader.take(piece) for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
        assert reader.take(pieces[-1] + b"hello") == (parse(ANSWER, False), b"hello")

    def test_what_came_for_one_request_is_nothing_to_the_next(self) -> None:
        reader = HeadReader()
        reader.take(INTERIM * MAX_INTERIM + b"HTTP/1.1 2")
        reader.expect(to_head=True)
        assert not reader.begun
        found = reader.take(INTERIM + ANSWER)
        assert found and found[0].framing is Framing.NONE

    @pytest.mark.parametrize(("data", "begun"), [(b"", False), (b"H", True), (INTERIM, True)])
    def test_anything_is_a_beginning(self, data: bytes, begun: bool) -> None:
        reader = HeadReader()
        assert reader.take(data) is None
        assert reader.begun is begun

    def test_answer_that_never_comes(self) -> None:
        with pytest.raises(BadResponse, match="never comes"):
            HeadReader().take(INTERIM * (MAX_INTERIM + 1))

    def test_protocol_changes_for_who_asked_for_it(self) -> None:
        with pytest.raises(BadResponse):
            HeadReader().take(SWITCHED)
        found = HeadReader(switching=True).take(INTERIM + SWITCHED + b"frame")
        assert found and (found[0].status, found[1]) == (101, b"frame")

    @pytest.mark.parametrize("end", ["", "\r\n\r\n"])
    def test_size_is_bounded(self, end: str) -> None:
        reader = HeadReader()
        most = b"HTTP/1.1 200 OK\r\nX: ".ljust(MAX_HEAD - 4, b"y")
        assert reader.take(most) is None
        assert reader.take(b"\r\n\r\n")
        with pytest.raises(BadResponse, match="larger"):
            HeadReader().take(most + b"yyyyy" + end.encode())
