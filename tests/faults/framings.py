"""Requests that are framed badly, oddly, or in two ways at once: templates times mutations.

Owns the corpus, and what another implementation (h11) reads in each. Every conversation is the request in question, in
or behind which a second one is hidden, and a last one that closes. Marks in the targets tell which an engine has got.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import h11

from tests.faults.conftest import KEY

_NUMBER = b"0000"
"""Stands for the conversation's own number, which is as long."""
Seen = tuple[str, str]
"""The mark of a request, and the SHA-256 of its body."""
_MARK = re.compile(r"(?:case|hidden|last)=\d{4}")
_EMPTY_ELEMENTS = re.compile(rb"(\r\nTransfer-Encoding:[ \t]*)(?:,[ \t]*)+chunked\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Conversation:
    """`plain`: nothing about it is wrong, and every request in it must be answered."""

    name: str
    data: bytes
    plain: bool = False

    def numbered(self, number: int) -> bytes:
        return self.data.replace(_NUMBER, b"%04d" % number)


def start_line(method: bytes, mark: bytes) -> bytes:
    return method + b" /upstream/m/fake/body?" + mark + b"=0000 HTTP/1.1\r\n"


_FIELDS = b"Host: localhost\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n"
HIDDEN = start_line(b"POST", b"hidden") + _FIELDS + b"X-Request-Id: 0000h\r\nContent-Length: 0\r\n\r\n"
_LAST = start_line(b"GET", b"last") + _FIELDS + b"X-Request-Id: 0000l\r\nConnection: close\r\n\r\n"
_ID = b"X-Request-Id: 0000\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(HIDDEN)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n0\r\n\r\n"


def post(fields: bytes, body: bytes, start: bytes = start_line(b"POST", b"case")) -> bytes:
    return start + _FIELDS + _ID + fields + b"\r\n" + body + _LAST


_CODINGS = [
    *(b"chunked", b"Chunked", b"CHUNKED", b" chunked", b"\tchunked", b"chunked ", b"chunked\t", b"\x0bchunked"),
    *(b"chunked\x0b", b"\x0cchunked", b"chunked\x00", b"\x00chunked", b"chunked\r", b"\rchunked", b'"chunked"'),
    *(b"'chunked'", b"chunke", b"chunkedd", b"xchunked", b"x chunked", b"chunked x", b"chunked;q=1", b"chunked;"),
    *(b",chunked", b"chunked,", b"chunked, ", b", ,chunked", b"chunked, chunked", b"chunked,identity"),
    *(b"identity", b"gzip", b"chunked, gzip", b"br"),
    *(b"\xa0chunked", b"chunked\xa0", b"\xefchunked", b"chunKed", b"\xff\xfe", b"0", b"null", b"trailers"),
    *(b"\n chunked", b"\r\n chunked", b"\r\n\tchunked", b"\n\tchunked", b"x\r\n chunked", b"chunked\r\n x"),
    *(b"chunked\nX: y", b"chunked\rX: y", b"chunked\n\r", b"identity\r\nTransfer-Encoding: chunked"),
    *(b"chunked\r\nTransfer-Encoding: identity", b"chunked\r\nTransfer-Encoding: chunked"),
]
_CODING_NAMES = [
    *(b"transfer-encoding:", b"TRANSFER-ENCODING:", b"Transfer-Encoding :", b" Transfer-Encoding:"),
    *(b"\tTransfer-Encoding:", b"Transfer-Encoding\t:", b"Transfer_Encoding:", b"Transfer-Encoding\x00:"),
    *(b"\x00Transfer-Encoding:", b"Transfer-Encoding\r:", b"Transfer-Encoding\n:", b"X: y\nTransfer-Encoding:"),
    *(b"X: y\rTransfer-Encoding:", b"\nTransfer-Encoding:", b"\rTransfer-Encoding:", b"Transfer-Encoding::"),
    *(b"Transfer-Encoding", b":Transfer-Encoding:", b"Transfer Encoding:", b"Transfer-Encoding\xa0:"),
    *(b"Transfer\xadEncoding:", b"Transfer-Encodin\xc4\xa1:", b"TE:", b"Content-Encoding:", b"Trailer:"),
    *(b"X-Transfer-Encoding:", b"Transfer-Encoding\x0b:", b'"Transfer-Encoding":', b"Transfer-Encoding;:"),
]
_RIGHT = b"%d" % len(HIDDEN)
_LENGTHS = [
    *(_RIGHT, b"0" + _RIGHT, b"0" * 30 + _RIGHT, b"+" + _RIGHT, b"-" + _RIGHT, b" " + _RIGHT, _RIGHT + b" "),
    *(b"\t" + _RIGHT, _RIGHT + b"\t", _RIGHT + b"\x0b", b"\x0b" + _RIGHT, _RIGHT + b"\x00", b"\x00" + _RIGHT),
    *(_RIGHT + b"," + _RIGHT, _RIGHT + b", " + _RIGHT, _RIGHT + b",0", b"0," + _RIGHT, _RIGHT + b";", b"0x10"),
    *(_RIGHT + b".0", b"1e2", b"1_0", b"", b" ", b"-0", b"-1", b"0", b"00", b"1", b"5", b"999999", b"0x0", b"#1"),
    *(b"9" * 18, b"9" * 19, b"9" * 40, b"18446744073709551616", b"18446744073709551615", b"4294967296", b"NaN"),
    *(b"infinity", b"\xb2", b"\xd9\xa1", b"\xef\xbc\x91", b'"10"', b"1 0", b"1\t0", b"chunked", b"*", b"0b1"),
    *(_RIGHT + b"\r\nContent-Length: " + _RIGHT, _RIGHT + b"\r\nContent-Length: 0", b"0\r\nContent-Length: " + _RIGHT),
    *(b"\r\n " + _RIGHT, _RIGHT + b"\r\n 0", b"\n " + _RIGHT, b"1\n0", b"0\nX: y", b"0\rX: y", _RIGHT + b"\r"),
]
_LENGTH_NAMES = [
    *(b"content-length:", b"CONTENT-LENGTH:", b"Content-Length :", b" Content-Length:", b"\tContent-Length:"),
    *(b"Content-Length\t:", b"Content_Length:", b"Content-Length\x00:", b"X: y\nContent-Length:", b"Content Length:"),
    *(b"X: y\rContent-Length:", b"\nContent-Length:", b"Content-Length::", b"Content-Length", b"X-Content-Length:"),
    *(b"Content-Length\xa0:", b"Content\xadLength:", b"Content-Length\x0b:", b"Content-Length\r\n:"),
]
_SIZE = b"%x" % len(HIDDEN)
_SIZES = [
    *(_SIZE, _SIZE.upper(), b"0" + _SIZE, b"0" * 15 + _SIZE, b"0" * 40 + _SIZE, b"0x" + _SIZE, b"+" + _SIZE),
    *(b"-" + _SIZE, b" " + _SIZE, b"\t" + _SIZE, _SIZE + b" ", _SIZE + b"\t", _SIZE + b"\x00", _SIZE + b"\x0b"),
    *(_SIZE + b"g", _SIZE + b"h", _SIZE + b".0", b"", b" ", b";x", b"-1", b"ffffffffffffffff", b"f" * 17, b"f" * 40),
    *(b"8000000000000000", b"10000000000000000" + _SIZE, b"100000000" + _SIZE, _SIZE + b"\r", _SIZE + b"\n"),
    *(b"\r\n" + _SIZE, b"\n" + _SIZE, _SIZE[:1], _SIZE + b"0", b"1" + _SIZE, b"\xb2", b"\xef\xbc\x91", b"_" + _SIZE),
    *(_SIZE + b";", _SIZE + b";x", _SIZE + b";x=y", _SIZE + b" ; x = y", _SIZE + b';x="y"', _SIZE + b';x="\r\n"'),
    *(_SIZE + b";x\n", _SIZE + b";\n0", _SIZE + b";x\r0", _SIZE + b";x\x00", _SIZE + b";" + b"x" * 5000),
    *(_SIZE + b";" + b"x" * 20_000, _SIZE + b";\xff", _SIZE + b",0", _SIZE + b" 0", b'"' + _SIZE + b'"', b"0;" + _SIZE),
]
_AFTER_CHUNKS = [
    *(
        b"\r\n0\r\n\r\n",
        b"\n0\n\n",
        b"0\r\n\r\n",
        b"\r0\r\n\r\n",
        b"\r\n0\n\n",
        b"\r\n0\r\n\n",
        b"\r\n0\r\r",
        b"\r\n00\r\n\r\n",
    ),
    *(
        b"xx0\r\n\r\n",
        b"\r\n\r\n0\r\n\r\n",
        b"\r\n0;x\r\n\r\n",
        b"\r\n0\r\nX: y\r\n\r\n",
        b"\r\n0\r\nX: y\n\n",
        b"\r\n0\r\n\rx",
    ),
    *(
        b"\r\n0\r\nContent-Length: 5\r\n\r\n",
        b"\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\r\n0\r\nno field\r\n\r\n",
    ),
    *(
        b"\r\n0\r\nX : y\r\n\r\n",
        b"\r\n0\r\n X: y\r\n\r\n",
        b"\r\n0\r\nX: \x00\r\n\r\n",
        b"\r\n0\r\nX: y\r\n z\r\n\r\n",
    ),
    *(
        b"\r\n0\r\nHost: evil\r\n\r\n",
        b"\r\n0\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"\r\n0\r\n" + b"X: y\r\n" * 300 + b"\r\n",
    ),
    *(b"\r\n0\r\n" + HIDDEN, b"\r\n0\r\n\r\n" + HIDDEN, b"\r\n0\r\n\r\n\r\n" + HIDDEN, b"\r\n" + HIDDEN, HIDDEN),
]
_ODD_FIELDS = [
    *(b"X: a\nY: b", b"X: a\rY: b", b"X: a\r\n b", b"X: a\r\n\tb", b"X: a\n b", b"X: a\x00b", b"X\x00: a", b"X: \x01"),
    *(b"X: \x7f", b"X: \xff", b"X: \xc3\xa9", b"X:", b"X: ", b"X:\ta\t", b"X", b"", b":", b": x", b" X: y", b"X : y"),
    *(b"X\t: y", b"X Y: z", b"X(: y", b"X@: y", b"\xc3\xa9: y", b'"X": y', b"X: a\r", b"\rX: a", b"X: a\r\r", b"\x00"),
    *(b"Host: localhost", b"Host: evil.example", b"Host:", b"host: localhost:1", b"Host : localhost", b"Host: a, b"),
    *(b"Connection: Authorization", b"Connection: X-Request-Id", b"Connection: Content-Length", b"Connection: Host"),
    *(b"Connection: Transfer-Encoding", b"Connection: close", b"Connection: keep-alive", b"Connection: upgrade"),
    *(
        b"Connection: close, keep-alive",
        b"Connection: ,",
        b"Connection:",
        b"Connection: \x00",
        b"Keep-Alive: timeout=1",
    ),
    *(b"Proxy-Connection: close", b"Connection: close\r\nConnection: keep-alive", b"Connection: TE\r\nTE: trailers"),
    *(b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",),
    *(
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x",
        b"Upgrade: h3",
    ),
    *(b"Expect: 100-continue", b"Expect: 100-Continue", b"Expect: 200-ok", b"Expect:", b"Expect: 100-continue, x"),
    *(b"Expect: 100-continue\r\nExpect: x", b"Expect: \x00", b"Expect : 100-continue", b"TE: trailers, chunked"),
    *(b"Content-Encoding: gzip", b"Content-Encoding: identity", b"Content-Encoding: deflate", b"Content-Encoding: x"),
    *(
        b"Trailer: Content-Length",
        b"Trailer: X",
        b"Max-Forwards: 0",
        b"X-HTTP-Method-Override: GET",
        b"Range: bytes=0-1",
    ),
    *(b"X-Original-URL: /models/unload", b"X-Rewrite-URL: /", b"X-Forwarded-Host: evil.example", b"Forwarded: host=x"),
    *(b"X-Request-Id: 0000x", b"X-Request-Id: a\x00b", b"Authorization: Bearer x", b"x-api-key: x", b"Cookie: a=b"),
    *(b"X: " + b"y" * 5000, b"X: " + b"y" * 20_000, b"X" * 20_000 + b": y", b"\r\n".join([b"X: y"] * 120)),
    *(b"\r\n".join(b"X-%d: y" % number for number in range(200)), b"\r\n".join([b"X: y"] * 3000)),
    *(
        b"Content-Type: application/json\x00",
        b"Content-Type: multipart/form-data; boundary=\xff",
        b"Date: x",
        b"Via: x",
    ),
]
_TARGET = b"/upstream/m/fake/body?case=0000"
_REQUEST_LINES = [
    *(b"%s " + _TARGET + b" HTTP/1.1", b"%s  " + _TARGET + b" HTTP/1.1", b"%s " + _TARGET + b"  HTTP/1.1"),
    *(b"%s\t" + _TARGET + b" HTTP/1.1", b"%s " + _TARGET + b"\tHTTP/1.1", b" %s " + _TARGET + b" HTTP/1.1"),
    *(
        b"%s " + _TARGET + b" HTTP/1.1 ",
        b"%s " + _TARGET,
        b"%s " + _TARGET + b" HTTP/1.0",
        b"%s " + _TARGET + b" HTTP/0.9",
    ),
    *(
        b"%s " + _TARGET + b" HTTP/" + version
        for version in (b"1.2", b"2.0", b"2", b"1.", b".1", b"1.10", b"11", b"9.9")
    ),
    *(b"%s " + _TARGET + b" http/1.1", b"%s " + _TARGET + b" HTTPS/1.1", b"%s " + _TARGET + b" X/1.1", b"%s"),
    *(b"%s http://localhost" + _TARGET + b" HTTP/1.1", b"%s https://localhost" + _TARGET + b" HTTP/1.1"),
    *(b"%s http://evil.example" + _TARGET + b" HTTP/1.1", b"%s //evil.example" + _TARGET + b" HTTP/1.1"),
    *(b"%s http://user@localhost" + _TARGET + b" HTTP/1.1", b"%s http://" + _TARGET + b" HTTP/1.1"),
    *(b"%s " + _TARGET + b"#fragment HTTP/1.1", b"%s " + _TARGET + b"&x=\x00 HTTP/1.1", b"%s * HTTP/1.1"),
    *(b"%s " + _TARGET + b"&x=\xff HTTP/1.1", b"%s " + _TARGET + b"&x=%%0d%%0aX:%%20y HTTP/1.1"),
    *(
        b"%s " + _TARGET + b"&x=%%00 HTTP/1.1",
        b"%s " + _TARGET + b"&x=%% HTTP/1.1",
        b"%s " + _TARGET + b"&x=\x7f HTTP/1.1",
    ),
    *(
        b"%s " + _TARGET + b"&x=y z HTTP/1.1",
        b"%s " + _TARGET + b'&x="<> HTTP/1.1',
        b"%s " + _TARGET + b"\rX: y HTTP/1.1",
    ),
    *(
        b"%s " + _TARGET + b"\nX: y HTTP/1.1",
        b"%s " + _TARGET + b" HTTP/1.1\nX: y",
        b"%s " + _TARGET + b" HTTP/1.1\rX: y",
    ),
    *(b"\r\n%s " + _TARGET + b" HTTP/1.1", b"\n%s " + _TARGET + b" HTTP/1.1", b"\r\n\r\n%s " + _TARGET + b" HTTP/1.1"),
    *(
        b"\x00%s " + _TARGET + b" HTTP/1.1",
        b"\xef\xbb\xbf%s " + _TARGET + b" HTTP/1.1",
        b"\r%s " + _TARGET + b" HTTP/1.1",
    ),
    *(b"%s /upstream/m/../m/fake/body?case=0000 HTTP/1.1", b"%s /upstream/m/%%2e%%2e/fake/body?case=0000 HTTP/1.1"),
    *(b"%s /upstream/m%%2ffake/body?case=0000 HTTP/1.1", b"%s /upstream/m/fake/body%%3fcase=0000 HTTP/1.1"),
    *(
        b"%s /upstream/m/fake/body%%20HTTP/1.1%%0d%%0a?case=0000 HTTP/1.1",
        b"%s upstream/m/fake/body?case=0000 HTTP/1.1",
    ),
    *(b"%s /upstream/m/fake\\body?case=0000 HTTP/1.1", b"%s \\upstream\\m\\fake?case=0000 HTTP/1.1"),
    *(b"%s " + _TARGET + b"&x=" + b"y" * 7000 + b" HTTP/1.1", b"%s " + _TARGET + b"&x=" + b"y" * 70_000 + b" HTTP/1.1"),
]
_METHODS = [
    *(b"POST", b"GET", b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"PRI", b"post"),
    *(b"GETT", b"G", b"X" * 100, b"G\x00T", b"G\xc3\x89T", b"P@ST", b'"GET"', b"GET\r", b"PROPFIND", b"SEARCH", b"get"),
]


def corpus() -> list[Conversation]:
    """Every conversation once."""
    found: dict[bytes, Conversation] = {}
    for kind in (_plain, _codings, _lengths, _chunks, _fields, _lines, _ends):
        for case in kind():
            found.setdefault(case.data, case)
    return list(found.values())


def _plain() -> Iterator[Conversation]:
    get = start_line(b"GET", b"case") + _FIELDS + _ID + b"\r\n"
    yield Conversation("length", post(LENGTH, HIDDEN), plain=True)
    yield Conversation("chunks", post(CHUNKED, CHUNKS), plain=True)
    yield Conversation("no body", get + _LAST, plain=True)
    yield Conversation("pipelined", get + HIDDEN + _LAST, plain=True)
    yield Conversation("pipelined after a body", post(LENGTH, HIDDEN + HIDDEN), plain=True)
    yield Conversation("pipelined after chunks", post(CHUNKED, CHUNKS + HIDDEN), plain=True)
    yield Conversation("nobody closes", get + HIDDEN, plain=True)


def _codings() -> Iterator[Conversation]:
    """Beside no length, one that is right for either reading, and such as end in the middle."""
    fields = [b"Transfer-Encoding: " + value for value in _CODINGS] + [name + b" chunked" for name in _CODING_NAMES]
    fields += [b"Transfer-Encoding:" + value for value in _CODINGS[:20]]
    escape = b"0\r\n\r\n" + HIDDEN
    for field in fields:
        line = field + b"\r\n"
        yield Conversation(f"{field!r}", post(line, CHUNKS))
        for size in (0, len(_SIZE) + 2, len(CHUNKS)):
            length = b"Content-Length: %d\r\n" % size
            yield Conversation(f"{field!r} after length {size}", post(length + line, CHUNKS))
        escaping = b"Content-Length: %d\r\n" % len(escape)
        yield Conversation(f"{field!r} before length, escaping", post(line + escaping, escape))


def _lengths() -> Iterator[Conversation]:
    fields = [b"Content-Length: " + value for value in _LENGTHS] + [name + b" " + _RIGHT for name in _LENGTH_NAMES]
    for field in fields:
        yield Conversation(f"{field!r}", post(field + b"\r\n", HIDDEN))
        yield Conversation(f"{field!r} before chunks", post(field + b"\r\n" + CHUNKED, CHUNKS))
        yield Conversation(f"{field!r} after a length", post(LENGTH + field + b"\r\n", HIDDEN))


def _chunks() -> Iterator[Conversation]:
    for size in _SIZES:
        yield Conversation(f"chunk of {size[:40]!r}", post(CHUNKED, size + b"\r\n" + HIDDEN + b"\r\n0\r\n\r\n"))
        yield Conversation(f"chunk of {size[:40]!r}, LF", post(CHUNKED, size + b"\n" + HIDDEN + b"\r\n0\r\n\r\n"))
    for after in _AFTER_CHUNKS:
        yield Conversation(f"chunk, then {after[:40]!r}", post(CHUNKED, _SIZE + b"\r\n" + HIDDEN + after))


def _fields() -> Iterator[Conversation]:
    get = start_line(b"GET", b"case") + _FIELDS + _ID
    for field in _ODD_FIELDS:
        line = field + b"\r\n"
        name = f"{field[:60]!r}"
        yield Conversation(f"{name} before a length", post(line + LENGTH, HIDDEN))
        yield Conversation(f"{name} after a length", post(LENGTH + line, HIDDEN))
        yield Conversation(f"{name} with chunks", post(CHUNKED + line, CHUNKS))
        yield Conversation(f"{name} without a body", get + line + b"\r\n" + HIDDEN + _LAST)
        yield Conversation(
            f"{name} first", start_line(b"POST", b"case") + line + _FIELDS + LENGTH + b"\r\n" + HIDDEN + _LAST
        )


def _lines() -> Iterator[Conversation]:
    for line in _REQUEST_LINES:
        for method, rest in ((b"GET", b"\r\n" + HIDDEN + _LAST), (b"POST", LENGTH + b"\r\n" + HIDDEN + _LAST)):
            start = line % method
            yield Conversation(f"{start[:80]!r}", start + b"\r\n" + _FIELDS + _ID + rest)
    for method in _METHODS:
        for framing, body in ((b"", HIDDEN), (LENGTH, HIDDEN), (CHUNKED, CHUNKS)):
            start = start_line(method, b"case")
            yield Conversation(f"{start[:40]!r} {framing!r}", post(framing, body, start))


def _ends() -> Iterator[Conversation]:
    """Other ends of lines, everywhere or at the end of the head, and conversations that break off."""
    whole = {"length": post(LENGTH, HIDDEN), "chunks": post(CHUNKED, CHUNKS)}
    for name, data in whole.items():
        for end in (b"\n", b"\r", b"\n\r", b"\r\r\n", b"\r\n\r\n", b"\x0b", b"\x85", b"\r\n "):
            yield Conversation(f"{name}, lines end with {end!r}", data.replace(b"\r\n", end))
            yield Conversation(f"{name}, the head ends with {end!r}", data.replace(b"\r\n\r\n", b"\r\n" + end, 1))
        for cut in range(10, len(data), 37):
            yield Conversation(f"{name}, cut off after {cut}", data[:cut])


def mark(target: str) -> str:
    """What the target says which request this is; nothing where it was lost."""
    found = _MARK.search(target)
    return found[0] if found else ""


def read_by_another(data: bytes) -> list[Seen]:
    """The requests that h11 reads, up to the first thing that it refuses."""
    seen: list[Seen] = []
    try:
        while data:
            connection = h11.Connection(h11.SERVER, max_incomplete_event_size=200_000)
            connection.receive_data(_strict(data))
            seen.append(_next_request(connection))
            data = b"" if connection.their_state is h11.MUST_CLOSE else connection.trailing_data[0]
    except (h11.ProtocolError, _Unfinished):
        pass
    return seen


def _strict(data: bytes) -> bytes:
    """What a server may pass over, and h11 does not: empty lines before a request, blanks that are doubled in its
    first line, and empty elements of a list. Sources: RFC 9112, sections 2.2 and 3; RFC 9110, section 5.6.1."""
    line, end, rest = data.lstrip(b"\r\n").partition(b"\r\n")
    words = b" ".join(line.split()) if line.startswith((b"GET ", b"POST ")) else line
    return words + end + _EMPTY_ELEMENTS.sub(rb"\1chunked\r\n", rest, count=1)


class _Unfinished(Exception):
    """There are no more bytes."""


def _next_request(connection: h11.Connection) -> Seen:
    target, body = "", hashlib.sha256()
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Request):
            target = event.target.decode("latin-1")
        elif isinstance(event, h11.Data):
            body.update(event.data)
        else:
            raise _Unfinished
    return mark(target), body.hexdigest()
