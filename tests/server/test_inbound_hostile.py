"""Bytes that are no good HTTP, each with the answer to it: one that every reader understands, and then a close.

Sources: RFC 9110, RFC 9112. Everything is tried with both of aiohttp's parsers, the one in C and the one in Python.
"""

import asyncio
import logging
import re
from collections import Counter

import pytest
from aiohttp import http_parser, web, web_protocol

from llamaproxy.core import plain, request_head
from llamaproxy.errors import GatewayError
from llamaproxy.server import body, inbound
from llamaproxy.server.inbound import Inbound
from llamaproxy.server.incoming import Request
from llamaproxy.server.parting import close_after
from tests.faults.framings import Conversation, corpus
from tests.server.conftest import InboundServer, Serve
from tests.server.raw import Answers, connected, one_answer, say, until_closed

GET = b"GET /health HTTP/1.1\r\n"
POST = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HOST = b"Host: localhost\r\n"
END = b"\r\n\r\n"
LAST = HOST + b"Connection: close\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
_START = b"POST /upstream/m/fake/body?case=0000 HTTP/1.1\r\n"
_DIFFERENT = re.compile(rb"(?<=\r\n)(?:Date|X-Request-Id): [^\r]*\r\n")
MANY = request_head.MOST_FIELDS + 1
LONG = request_head.LONGEST_FIELD + 1

MALFORMED = {
    # What ends a message: RFC 9112, section 6.
    "length and coding": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "coding twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding named twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "coding of nothing": POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "coding in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "coding after a control": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "coding with a space before its colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "coding in HTTP/1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n",
    "lengths that differ": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "lengths that agree": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "length as a list": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "length with a plus": POST + b"Content-Length: +2\r\n\r\n{}",
    "length with a minus": POST + b"Content-Length: -2\r\n\r\n{}",
    "length in two words": POST + b"Content-Length: 1 2\r\n\r\n{}",
    "length in hex": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "length of nothing": POST + b"Content-Length:\r\n\r\n",
    "chunk size in words": CHUNKED + b"two\r\n{}\r\n0\r\n\r\n",
    "chunk size with 0x": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
    "chunk size with a plus": CHUNKED + b"+2\r\n{}\r\n0\r\n\r\n",
    "chunk size with a minus": CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
    "chunk size of nothing": CHUNKED + b"\r\n{}\r\n0\r\n\r\n",
    "chunk size with a space": CHUNKED + b"2 \r\n{}\r\n0\r\n\r\n",
    "chunk without its end": CHUNKED + b"2\r\n{}XX0\r\n\r\n",
    "chunk with bare line feeds": CHUNKED + b"2\n{}\n0\n\n",
    "chunk extension with a line feed": CHUNKED + b"2;a\nb\r\n{}\r\n0\r\n\r\n",
    "trailer with a space": CHUNKED + b"2\r\n{}\r\n0\r\nX : y\r\n\r\n",
    "too many trailers": CHUNKED + b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 500 + b"\r\n",
    # Fields: RFC 9112, section 5; RFC 9110, section 5.5.
    "folded field": GET + HOST + b"X-A: b\r\n c" + END,
    "folded first field": GET + b" X: y\r\n" + HOST + END,
    "NUL in a field": GET + HOST + b"X-A: b\x00c" + END,
    "CR in a field": GET + HOST + b"X-A: b\rc" + END,
    "LF in a field": GET + HOST + b"X-A: b\nX-B: c" + END,
    "BEL in a field": GET + HOST + b"X-A: b\x07c" + END,
    "DEL in a field": GET + HOST + b"X-A: b\x7fc" + END,
    "space before the colon": GET + HOST + b"X-A : b" + END,
    "field without a colon": GET + HOST + b"X-A" + END,
    "field without a name": GET + HOST + b": b" + END,
    "name that is no token": GET + HOST + b"X(a): b" + END,
    "name beyond ASCII": GET + HOST + b"X-\xc3\xa9: b" + END,
    "no host": GET + b"X: y" + END,
    "two hosts": GET + HOST + b"Host: evil.example" + END,
    "lines that end in LF": b"GET /health HTTP/1.1\nHost: localhost\n\n",
    # The request line: RFC 9112, section 3.
    "tab in the request line": GET.replace(b" ", b"\t") + HOST + END,
    "space after the version": b"GET /health HTTP/1.1 \r\n" + HOST + END,
    "space in the target": b"GET /hea lth HTTP/1.1\r\n" + HOST + END,
    "NUL in the target": b"GET /hea\x00lth HTTP/1.1\r\n" + HOST + END,
    "target beyond ASCII": b"GET /health\xc3\xa9 HTTP/1.1\r\n" + HOST + END,
    "target with a fragment": b"GET /health#x HTTP/1.1\r\n" + HOST + END,
    "relative target": b"GET health HTTP/1.1\r\n" + HOST + END,
    "authority as a target": b"GET localhost:80 HTTP/1.1\r\n" + HOST + END,
    "asterisk as a target": b"GET * HTTP/1.1\r\n" + HOST + END,
    "absolute target without an authority": b"GET http:///health HTTP/1.1\r\n" + HOST + END,
    "absolute target of another scheme": b"GET ftp://localhost/health HTTP/1.1\r\n" + HOST + END,
    "lower-case protocol": b"GET /health http/1.1\r\n" + HOST + END,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "old WebSocket": GET + HOST + b"Sec-WebSocket-Key1: x" + END,
}
OTHERWISE_REFUSED = {
    "coding that is unknown": (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "coding that does not frame": (501, POST + b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n"),
    "identity": (501, POST + b"Transfer-Encoding: identity\r\n\r\n"),
    "length that overflows": (413, POST + b"Content-Length: 18446744073709551615\r\n\r\n"),
    "length that overflows where nobody reads": (413, GET + HOST + b"Content-Length: 18446744073709551615" + END),
    "method that is unknown": (501, b"FOO /health HTTP/1.1\r\n" + HOST + END),
    "method in lower case": (501, b"get /health HTTP/1.1\r\n" + HOST + END),
    "method of another protocol": (501, b"DESCRIBE /health HTTP/1.1\r\n" + HOST + END),
    "method of WebDAV": (501, b"PROPFIND /upstream/m/ HTTP/1.1\r\n" + HOST + END),
    "CONNECT": (405, b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + END),
    "TRACE": (405, b"TRACE /upstream/m/ HTTP/1.1\r\n" + HOST + END),
    "HTTP/0.9": (505, b"GET /health\r\n\r\n"),
    "explicit HTTP/0.9": (505, b"GET /health HTTP/0.9\r\n" + HOST + END),
    "HTTP/1.2": (505, b"GET /health HTTP/1.2\r\n" + HOST + END),
    "HTTP/2 in a request line": (505, b"GET /health HTTP/2.0\r\n" + HOST + END),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/9.9": (505, b"GET /health HTTP/9.9\r\n" + HOST + END),
    "too many fields": (431, GET + HOST + b"X: y\r\n" * MANY + b"\r\n"),
    "field that is too long": (431, GET + HOST + b"X: " + b"y" * LONG + END),
    "field that is too long with its name": (431, GET + HOST + b"X-A: " + b"y" * (LONG - 3) + END),
    "name that is too long": (431, GET + HOST + b"x" * LONG + b": y" + END),
    "target that is too long": (414, b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\n" + HOST + END),
    "content coding that is not installed": (415, POST + b"Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}"),
    "another one, in chunks": (
        415,
        POST + b"Content-Encoding: ZStd\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ),
    "another expectation": (417, POST + b"Expect: a-miracle\r\nContent-Length: 2\r\n\r\n{}"),
    "foreign authority in the target": (
        403,
        b"GET http://evil.example/v1/models HTTP/1.1\r\nConnection: close\r\n" + HOST + END,
    ),
    "authority with a user": (
        403,
        b"GET http://localhost@evil.example/ HTTP/1.1\r\nConnection: close\r\n" + HOST + END,
    ),
    "list of hosts": (403, b"GET /v1/models HTTP/1.1\r\nConnection: close\r\nHost: localhost, evil.example" + END),
}


@pytest.fixture(params=["C", "Python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "HttpRequestParserC" if request.param == "C" else "HttpRequestParserPy"
    monkeypatch.setattr(web_protocol, "HttpRequestParser", getattr(http_parser, name))
    return str(request.param)


def check(answers: Answers, status: int) -> None:
    assert answers.statuses == [status]
    assert b"connection: close" in answers.last_head
    assert b"content-type: application/json" in answers.last_head
    assert answers.error["message"]


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_malformed_is_refused(
    serve: Serve, parser: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = await serve()
    check(await say(client.port, MALFORMED[name]), 400)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("name", OTHERWISE_REFUSED)
async def test_what_is_not_served_has_its_status(serve: Serve, parser: str, name: str) -> None:
    status, data = OTHERWISE_REFUSED[name]
    client = await serve()
    if name == "method in lower case" and parser == "Python":
        pytest.skip("this parser makes all methods upper-case")
    check(await say(client.port, data), status)


async def test_every_conversation_has_the_answers_that_it_has_without_a_short_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the corpus of framings, on an engine's route.

    A machine that stands still for a second lets a deadline pass, which it does not do each time: what is different
    is asked again, and is still different if the way makes the difference.
    """
    monkeypatch.setattr(inbound, "KEEP_ALIVE", 3.0)
    ways: Counter[str] = Counter()

    async def judge(request: Request) -> web.StreamResponse:
        ways[type(request.protocol).__name__] += 1
        try:
            content = await body.read(request, 1 << 20, 1.0)
            response = web.Response(text=f"{request.method} {request.path_qs} {content!r}")
        except GatewayError as error:
            response = web.Response(status=error.status, text=error.message)
        if not request.complete:
            await close_after(request, response)
        return response

    async with InboundServer(Inbound(judge, lambda: 1.0)) as server:

        async def told_apart(conversations: list[Conversation]) -> dict[Conversation, tuple[bytes, bytes]]:
            short = await told(server.port, conversations)
            lanes = ways["Lane"]
            with monkeypatch.context() as patch:
                patch.setattr(inbound, "_KNOWN", False)
                long = await told(server.port, conversations)
            assert ways["Lane"] == lanes
            pairs = zip(short, long, strict=True)
            return {case: pair for case, pair in zip(conversations, pairs, strict=True) if pair[0] != pair[1]}

        different = await told_apart(corpus())
        assert ways["Lane"] > 40
        for _ in range(2):
            different = await told_apart(list(different))
    assert not different
    assert len(corpus()) >= 1000


async def told(port: int | None, conversations: list[Conversation]) -> list[bytes]:
    """What comes back in each conversation, in which the second request waits for the answer to a plain first one."""
    free = asyncio.Semaphore(128)

    async def hold(data: bytes) -> bytes:
        frame = plain.frame(data)
        end = len(data) - len(frame[1]) + frame[2] if frame else len(data)
        async with free, connected(port) as (reader, writer):
            writer.write(data[:end])
            first = b""
            if frame:
                first = await one_answer(reader, bare=data.startswith(b"HEAD "))
                writer.write(data[end:])
            return _DIFFERENT.sub(b"", first + (await until_closed(reader)).text)

    line = b"POST /v1/completions HTTP/1.1\r\n"
    return list(await asyncio.gather(*(hold(case.data.replace(_START, line)) for case in conversations)))
