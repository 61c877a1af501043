"""What passes a gateway, and what ends there. RFC 9110, section 7.6.1."""

import pytest

from llamaproxy.core.headers import answer_head, to_client, to_engine
from llamaproxy.core.response import Framing, Head


def names(fields: list[tuple[str, str]]) -> list[str]:
    return [name for name, _ in fields]


@pytest.mark.parametrize(
    "field",
    [
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "X-Request-Id",
    ],
)
def test_hop_by_hop_fields_end_here_both_ways(field: str) -> None:
    raw = [(field.encode(), b"x"), (b"X-Kept", b"1")]
    assert names(to_engine(raw)) == ["X-Kept"]
    assert names(to_client(raw)) == ["X-Kept"]


def test_fields_that_connection_names_end_here() -> None:
    raw = [(b"Connection", b"close, X-Mine"), (b"x-mine", b"1"), (b"connection", b"x-other"), (b"X-Other", b"2")]
    assert to_engine(raw) == []
    assert to_client(raw) == []


@pytest.mark.parametrize(
    "field",
    [
        "Authorization",
        "X-API-Key",
        "Cookie",
        "Host",
        "Origin",
        "Referer",
        "Content-Length",
        "Content-Encoding",
        "X-Conversation-Id",
        "Expect",
    ],
)
def test_clients_own_business_is_not_the_engines(field: str) -> None:
    assert to_engine([(field.encode(), b"x")]) == []


def test_engines_opinion_about_origins_is_not_the_clients() -> None:
    raw = [
        (b"Access-Control-Allow-Origin", b"*"),
        (b"access-control-max-age", b"1"),
        (b"Server", b"llama.cpp"),
        (b"Content-Length", b"5"),
    ]
    assert to_client(raw) == [("Content-Length", "5")]


@pytest.mark.parametrize(
    "field", ["Set-Cookie", "Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc", "WWW-Authenticate"]
)
def test_no_backend_speaks_to_a_browser_for_the_gateway(field: str) -> None:
    assert to_client([(field.encode(), b"x")]) == []


def test_order_case_and_repetition_stay() -> None:
    raw = [(b"X-B", b"1"), (b"x-a", b"2"), (b"X-B", b"\xc3\xbc")]
    assert to_engine(raw) == [("X-B", "1"), ("x-a", "2"), ("X-B", "ü")]


def test_bytes_that_are_no_text_pass_unchanged() -> None:
    [(_, value)] = to_engine([(b"X-A", b"\xff")])
    assert value.encode("utf-8", "surrogateescape") == b"\xff"


def test_connection_may_name_nothing() -> None:
    assert to_engine([(b"Connection", b" , close ,"), (b"X-A", b"1")]) == [("X-A", "1")]


def test_each_direction_drops_its_own() -> None:
    raw = [(b"Access-Control-Request-Method", b"GET"), (b"Accept", b"*/*"), (b"Content-Type", b"application/json")]
    assert names(to_engine(raw)) == ["Access-Control-Request-Method", "Accept", "Content-Type"]
    assert names(to_client([(b"Cookie", b"1"), (b"Location", b"/")])) == ["Cookie", "Location"]


class TestAnswerHead:
    def head(self, *fields: tuple[bytes, bytes]) -> Head:
        return Head(200, b"OK", fields, Framing.CHUNKED, 0, True)

    def test_engines_fields_and_our_own(self) -> None:
        head = self.head((b"Content-Type", b"text/plain"), (b"X-Name", b"caf\xc3\xa9 \xff"), (b"Server", b"llama.cpp"))
        assert answer_head(head, {"X-Own": "1"}, chunked=False, goes_on=True) == (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Name: caf\xc3\xa9 \xff\r\nX-Own: 1\r\n\r\n"
        )

    def test_framing_and_the_end_of_the_connection_are_told_anew(self) -> None:
        head = self.head((b"Transfer-Encoding", b"chunked"), (b"Connection", b"x-hop, close"), (b"X-Hop", b"1"))
        assert answer_head(head, {}, chunked=True, goes_on=True) == (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert answer_head(head, {}, chunked=False, goes_on=False) == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"

    def test_length_is_told_once_and_cannot_be_talked_away(self) -> None:
        lengths = ((b"Content-Length", b"5"), (b"content-length", b"5"), (b"Connection", b"content-length"))
        assert answer_head(self.head(*lengths), {}, chunked=False, goes_on=True) == (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        )
        empty = Head(204, b"", lengths, Framing.NONE, 0, True)
        assert answer_head(empty, {}, chunked=False, goes_on=True) == b"HTTP/1.1 204 \r\n\r\n"

    def test_nobody_speaks_for_the_gateway(self) -> None:
        head = self.head((b"X-Llamaproxy-Model", b"x"), (b"Access-Control-Allow-Origin", b"*"))
        assert answer_head(head, {}, chunked=False, goes_on=True) == b"HTTP/1.1 200 OK\r\n\r\n"
