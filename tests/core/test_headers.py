"""What passes a gateway, and what ends there. RFC 9110, section 7.6.1."""

import pytest

from llamaproxy.core.headers import to_client, to_engine


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
