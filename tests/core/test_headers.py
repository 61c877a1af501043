"""What passes a gateway, and what ends there. RFC 9110, section 7.6.1."""

import pytest

from llamaproxy.core.headers import answer_head, lines, to_client, to_engine
from llamaproxy.core.response import Framing, Head


def named(*names: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name, b"x") for name in names)


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
    raw = named(field.encode(), b"X-Kept")
    assert to_engine(raw) == b"X-Kept: x\r\n"
    assert to_client(raw) == [(b"X-Kept", b"x")]


def test_fields_that_connection_names_end_here() -> None:
    raw = ((b"Connection", b"close, X-Mine"), (b"x-mine", b"1"), (b"connection", b"x-other"), (b"X-Other", b"2"))
    assert to_engine(raw) == b""
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
    assert to_engine(named(field.encode())) == b""


def test_engines_opinion_about_origins_is_not_the_clients() -> None:
    raw = named(b"Access-Control-Allow-Origin", b"access-control-max-age", b"Server", b"Content-Length")
    assert to_client(raw) == [(b"Content-Length", b"x")]


@pytest.mark.parametrize(
    "field", ["Set-Cookie", "Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc", "WWW-Authenticate"]
)
def test_no_backend_speaks_to_a_browser_for_the_gateway(field: str) -> None:
    assert to_client(named(field.encode())) == []


def test_order_case_and_repetition_stay() -> None:
    raw = ((b"X-B", b"1"), (b"x-a", b"2"), (b"X-B", b"\xc3\xbc"))
    assert to_engine(raw) == b"X-B: 1\r\nx-a: 2\r\nX-B: \xc3\xbc\r\n"


def test_bytes_that_are_no_text_pass_unchanged() -> None:
    assert to_engine(((b"X-A", b"\xff"),)) == b"X-A: \xff\r\n"


def test_connection_may_name_nothing() -> None:
    assert to_engine(((b"Connection", b" , close ,"), (b"X-A", b"1"))) == b"X-A: 1\r\n"


def test_answer_that_is_read_on_its_way_is_not_compressed() -> None:
    raw = ((b"accept-encoding", b"gzip, br"), (b"X-A", b"1"))
    assert to_engine(raw) == b"accept-encoding: gzip, br\r\nX-A: 1\r\n"
    assert to_engine(raw, read=True) == b"X-A: 1\r\n"


def test_more_fields_than_are_remembered_pass_all_the_same() -> None:
    raw = named(*(b"X-%d" % number for number in range(90)))
    assert to_engine(raw).count(b"\r\n") == 90


def test_each_direction_drops_its_own() -> None:
    raw = named(b"Access-Control-Request-Method", b"Accept", b"Content-Type")
    assert to_engine(raw) == b"Access-Control-Request-Method: x\r\nAccept: x\r\nContent-Type: x\r\n"
    assert to_client(named(b"Cookie", b"Location")) == [(b"Cookie", b"x"), (b"Location", b"x")]


class TestAnswerHead:
    def head(self, *fields: tuple[bytes, bytes]) -> Head:
        return Head(200, b"OK", fields, Framing.CHUNKED, 0, True)

    def test_engines_fields_and_our_own(self) -> None:
        head = self.head((b"Content-Type", b"text/x"), (b"X-Name", b"caf\xc3\xa9 \xff"), (b"Server", b"llama.cpp"))
        assert answer_head(head, lines({"X-Own": "1", "X-U": "ü"}), chunked=False, goes_on=True) == (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nX-Name: caf\xc3\xa9 \xff\r\nX-Own: 1\r\nX-U: \xc3\xbc\r\n\r\n"
        )

    def test_limits_are_the_gateways_own(self) -> None:
        """Those of a server elsewhere are its operator's, and would be told as if they were the client's."""
        theirs = ((b"X-RateLimit-Limit-Requests", b"9"), (b"x-ratelimit-reset-tokens", b"6m0s"), (b"A", b"b"))
        assert to_client(theirs) == [(b"A", b"b")]

    def test_framing_and_the_end_of_the_connection_are_told_anew(self) -> None:
        head = self.head((b"Transfer-Encoding", b"chunked"), (b"Connection", b"x-hop, close"), (b"X-Hop", b"1"))
        assert answer_head(head, b"", chunked=True, goes_on=True) == (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert answer_head(head, b"", chunked=False, goes_on=False) == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"

    def test_length_is_told_once_and_cannot_be_talked_away(self) -> None:
        lengths = ((b"Content-Length", b"5"), (b"content-length", b"5"), (b"Connection", b"content-length"))
        assert answer_head(self.head(*lengths), b"", chunked=False, goes_on=True) == (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        )
        empty = Head(204, b"", lengths, Framing.NONE, 0, True)
        assert answer_head(empty, b"", chunked=False, goes_on=True) == b"HTTP/1.1 204 \r\n\r\n"

    def test_nobody_speaks_for_the_gateway(self) -> None:
        head = self.head((b"X-Llamaproxy-Model", b"x"), (b"Access-Control-Allow-Origin", b"*"))
        assert answer_head(head, b"", chunked=False, goes_on=True) == b"HTTP/1.1 200 OK\r\n\r\n"
