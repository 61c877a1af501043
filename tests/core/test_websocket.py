"""llamaproxy.core.websocket: which handshakes are good ones. Key and answer are those of RFC 6455, section 1.3."""

import pytest

from llamaproxy.core.response import BadResponse, parse
from llamaproxy.core.websocket import accept_of, check_answer, key_of

KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
FIELDS = {
    "Upgrade": "WebSocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}
ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "


def test_good_handshake_has_its_key() -> None:
    assert key_of("GET", (1, 1), FIELDS) == KEY
    assert accept_of(KEY) == ACCEPT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Upgrade", "h2c"),
        ("Upgrade", "websocket, h2c"),
        ("Connection", "keep-alive"),
        ("Sec-WebSocket-Version", "8"),
        ("Sec-WebSocket-Key", ""),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ"),
        ("Sec-WebSocket-Key", "a" * 24),
    ],
)
def test_what_lacks_something_is_none(name: str, value: str) -> None:
    assert key_of("GET", (1, 1), {**FIELDS, name: value}) is None
    assert key_of("GET", (1, 1), {key: kept for key, kept in FIELDS.items() if key != name}) is None


def test_only_a_get_of_http_1_1_can_ask() -> None:
    assert key_of("POST", (1, 1), FIELDS) is None
    assert key_of("GET", (1, 0), FIELDS) is None


def test_right_answer_is_taken() -> None:
    check_answer(parse(ANSWER + ACCEPT.encode() + b"\r\n\r\n", to_head=False), KEY)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ANSWER + b"x\r\n\r\n",
        ANSWER.replace(b"Upgrade: WebSocket", b"Upgrade: h2c") + ACCEPT.encode() + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
def test_any_other_is_refused(answer: bytes) -> None:
    with pytest.raises(BadResponse):
        check_answer(parse(answer, to_head=False), KEY)
