"""The fake llama-server's HTTP."""

import json
import re
import time

import pytest

from tests.fake.harness import CHAT, Client, Starter, chat, read_until, rest


def test_keeps_alive_100_requests_and_says_so(start: Starter) -> None:
    fake = start().ready()
    with Client(fake.path) as client:
        answers = [client.ask("GET", "/health") for _ in range(100)]
    assert [answer.headers.get("keep-alive") for answer in answers] == ["timeout=5, max=100"] * 99 + [None]
    assert answers[-1].headers["connection"] == "close"


def test_closes_idle_connections(start: Starter) -> None:
    fake = start(KEEPALIVE=0.3).ready()
    with fake.raw(b"GET /health HTTP/1.1\r\n\r\n") as connection:
        began = time.monotonic()
        assert rest(connection).endswith(b'{"status":"ok"}')
        assert 0.2 < time.monotonic() - began < 3


def test_an_error_closes_the_connection(start: Starter) -> None:
    with start().ready().raw(b"GET /no HTTP/1.1\r\n\r\n") as connection:
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b'{"error":{"message":"File Not Found","type":"not_found_error","code":404}}')


def test_chunked_body(start: Starter) -> None:
    head = b"POST /tokenize HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    fake = start().ready()
    with fake.raw(head + b'5;x=y\r\n{"con\r\nc\r\ntent":"a b"}\r\n0\r\nX-Trailer: 1\r\n\r\n') as connection:
        answer = rest(connection)
    assert len(json.loads(answer.split(b"\r\n\r\n")[1])["tokens"]) == 2


@pytest.mark.parametrize(
    "request_head",
    [
        b"GARBAGE\r\n\r\n",
        b"POST /tokenize HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /tokenize HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_request_gets_400_and_a_close(start: Starter, request_head: bytes) -> None:
    with start().ready().raw(request_head) as connection:
        assert rest(connection) == b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def test_pipelined_requests_are_answered_in_order(start: Starter) -> None:
    one, two = b"GET /health HTTP/1.1\r\n\r\n", b"GET /no HTTP/1.1\r\n\r\n"
    with start().ready().raw(one + one + two) as connection:
        answer = rest(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"200", b"404"]


def test_expect_continue_and_head(start: Starter) -> None:
    fake = start().ready()
    with fake.raw(b"POST /tokenize HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n") as connection:
        assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert b'{"tokens":[]}' in read_until(connection, b"}")
    with fake.raw(b"HEAD /health HTTP/1.1\r\nConnection: close\r\n\r\n") as connection:
        assert rest(connection).endswith(b"\r\n\r\n")


def test_every_response_names_the_process(start: Starter) -> None:
    fake = start().ready()
    for answer in fake.ask("GET", "/no"), fake.ask("GET", "/slots"), fake.ask("POST", CHAT, chat(stream=True)):
        assert answer.headers["x-fake-pid"] == str(fake.process.pid)
        assert answer.headers["server"] == "llama.cpp"
