"""llamaproxy.core.request_head: what is left open by the parser, and what its refusals are called."""

from typing import Any

import pytest

from llamaproxy.core.request_head import (
    LONGEST_FIELD,
    LONGEST_TARGET,
    METHODS,
    MOST_FIELDS,
    check,
    check_lengths,
    explain,
)


def refused(method: str = "GET", target: str = "/", version: tuple[int, int] = (1, 1), **fields: str) -> Any:
    error = check(method, target, version, {name.replace("_", "-"): value for name, value in fields.items()})
    return error.status if error else None


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("version", [(1, 0), (1, 1)])
@pytest.mark.parametrize("target", ["/", "/a?b=c", "*", "http://x/", "HTTPS://x:1?a"])
def test_ordinary_requests_pass(method: str, version: tuple[int, int], target: str) -> None:
    assert refused(method, target, version) is None
    assert refused(method, target, version, Content_Length="123456789012345") is None


def test_bodies_in_chunks_and_those_that_are_asked_for_pass() -> None:
    assert refused(Transfer_Encoding="Chunked", Expect="100-Continue") is None


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (505, {"version": (2, 0)}),
        (505, {"version": (0, 9)}),
        (505, {"version": (1, 2)}),
        (405, {"method": "CONNECT"}),
        (405, {"method": "TRACE"}),
        (501, {"method": "PROPFIND"}),
        (501, {"method": "get"}),
        (400, {"target": "/a#b"}),
        (400, {"target": "/\xe9"}),
        (400, {"target": "ftp://x/"}),
        (400, {"target": "http:///x"}),
        (400, {"target": "*x"}),
        (400, {"target": "x:80"}),
        (400, {"version": (1, 0), "Transfer_Encoding": "chunked"}),
        (400, {"Transfer_Encoding": "chunked, chunked"}),
        (501, {"Transfer_Encoding": "gzip, chunked"}),
        (400, {"Transfer_Encoding": ""}),
        (400, {"Transfer_Encoding": ","}),
        (413, {"Content_Length": "1234567890123456"}),
        (417, {"Expect": "a-miracle"}),
        (417, {"Expect": ""}),
    ],
)
def test_what_a_parser_may_take_and_we_do_not(status: int, request_: dict[str, Any]) -> None:
    assert refused(**request_) == status


def test_old_clients_cannot_expect_anything() -> None:
    assert refused(version=(1, 0), Expect="a-miracle") is None


@pytest.mark.parametrize(
    ("code", "head"),
    [
        ("invalid_request", b""),
        ("invalid_request", b"\x16\x03\x01"),
        ("invalid_request", b"GET / HTTP/1.1\r\nX : y\r\n\r\n"),
        ("http_version_not_supported", b"\r\nGET / HTTP/9.9\r\n\r\n"),
        ("http_version_not_supported", b"GET /\r\n"),
        ("not_implemented", b"FOO / HTTP/1.1\r\n\r\n"),
        ("method_not_allowed", b"CONNECT / HTTP/1.1\r\n\r\n"),
        ("uri_too_long", b"GET /" + b"x" * LONGEST_TARGET),
        ("headers_too_large", b"GET / HTTP/1.1\r\nX: " + b"x" * LONGEST_FIELD),
        ("headers_too_large", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (MOST_FIELDS + 1)),
        ("not_implemented", b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n0"),
        ("invalid_request", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0"),
        ("invalid_request", b"POST / HTTP/1.1\r\n\r\nTransfer-Encoding : gzip"),
    ],
)
def test_refusals_of_the_parser_have_their_names(code: str, head: bytes) -> None:
    assert explain(head).code == code


def test_a_field_is_measured_with_its_name() -> None:
    longest = (b"X-A", b"y" * (LONGEST_FIELD - 3))
    assert check_lengths([longest, longest]) is None
    refused = check_lengths([longest, (b"X-AB", longest[1])])
    assert refused and refused.status == 431


def test_what_the_client_sent_is_told_in_bounds() -> None:
    assert len(explain(b"X" * 5000 + b" / HTTP/1.1\r\n").message) < 200
