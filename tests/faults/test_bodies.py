"""Bodies that are too large, that are no JSON or mean two things, and names of models that are no names."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import KEY, Start
from tests.faults.gauge import peak
from tests.faults.raw import connected
from tests.gateway import Client, Table, fake_model

CHAT = "/v1/chat/completions"
_HUGE = 1 << 30
_MOST = 1024**2
_AT_ONCE = 10
_PIECE = b" " * 65536
_BUFFERS = 16 * 1024**2
"""What may be under way between two processes, in their own buffers and the kernel's."""


def asked(client: Client) -> int:
    """How many requests the engines have got."""
    return sum(line[0] == "request" and line[3] == CHAT for line in client.gateway.journal())


@pytest.mark.parametrize(
    ("framing", "piece"),
    [
        (f"Content-Length: {_HUGE}", _PIECE),
        (f"Content-Length: {_HUGE}\r\nExpect: 100-continue", b""),
        ("Transfer-Encoding: chunked", b"%x\r\n%b\r\n" % (len(_PIECE), _PIECE)),
    ],
    ids=["length", "asked before", "chunked"],
)
async def test_huge_body_is_refused_before_it_is_buffered(
    start: Start, tmp_path: Path, framing: str, piece: bytes
) -> None:
    config: dict[str, Table] = {"models": {"m": fake_model(tmp_path, "m")}, "server": {"port": 0, "max_body": _MOST}}
    async with start(config) as client:
        await client.chat("m")
        async with peak(client.gateway.resident) as resident:
            ends = await asyncio.gather(*(_refused(client.gateway.url, framing, piece) for _ in range(_AT_ONCE)))
        assert {status for status, _ in ends} == {b"413"}
        assert max(sent for _, sent in ends) < _MOST + _BUFFERS
        assert resident.growth < _AT_ONCE * 3 * _MOST
        assert (await client.chat("m"))[0] == 200
        assert asked(client) == 2


async def _refused(url: str, framing: str, piece: bytes) -> tuple[bytes, int]:
    """The status of the answer, and how many bytes of the body were written until it came."""
    sent = 0

    async def pump(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        with contextlib.suppress(ConnectionError):
            while piece and sent < _HUGE:
                writer.write(piece)
                await writer.drain()
                sent += len(piece)
                # Nothing here waits while the gateway takes it as fast as it comes: an answer must be seen.
                await asyncio.sleep(0)

    async with connected(url) as (reader, writer), asyncio.TaskGroup() as group:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n{framing}\r\n\r\n"
        writer.write(head.encode())
        pumping = group.create_task(pump(writer))
        while (status := (await reader.readline()).split()[1]) == b"100":
            await reader.readline()
        pumping.cancel()
    return status, sent


def chat(*fields: str) -> bytes:
    return ("{" + ", ".join((*fields, '"messages": []')) + "}").encode()


_BAD_JSON: dict[str, tuple[bytes, str]] = {
    "deep arrays": (chat('"model": "m", "x": ' + "[" * 100_000 + "]" * 100_000), "invalid_json"),
    "deep objects": (chat('"model": "m", "x": ' + '{"a":' * 100_000 + "1" + "}" * 100_000), "invalid_json"),
    "never closed": (b"[" * 100_000, "invalid_json"),
    "a little too deep": (chat('"model": "m", "x": ' + "[" * 101 + "]" * 101), "invalid_json"),
    "not UTF-8": (b'{"model": "m", "messages": [], "x": "\xff\xfe"}', "invalid_json"),
    "half a surrogate": (b'{"model": "m", "messages": [], "x": "\xed\xa0\x80"}', "invalid_json"),
    "overlong NUL": (b'{"model": "m", "messages": [], "x": "\xc0\x80"}', "invalid_json"),
    "UTF-16": (chat('"model": "m"').decode().encode("utf-16"), "invalid_json"),
    "byte order mark": (b"\xef\xbb\xbf" + chat('"model": "m"'), "invalid_json"),
    "NaN": (chat('"model": "m", "temperature": NaN'), "invalid_json"),
    "Infinity": (chat('"model": "m", "temperature": -Infinity'), "invalid_json"),
    "comment": (chat('"model": "m" /* no */'), "invalid_json"),
    "two documents": (chat('"model": "m"') * 2, "invalid_json"),
    "comma at the end": (b'{"model": "m", "messages": [],}', "invalid_json"),
    "control character": (b'{"model": "m", "messages": [], "x": "\x01"}', "invalid_json"),
    "text": (b"model=m", "invalid_json"),
    "NUL": (b"\0" * 100, "invalid_json"),
    "number": (b"1", "invalid_request"),
    "string": (b'"model"', "invalid_request"),
    "null": (b"null", "invalid_request"),
    "duplicate": (chat('"model": "m"', '"model": "other"'), "duplicate_model"),
    "same twice": (chat('"model": "m"', '"model": "m"'), "duplicate_model"),
    "escaped": (chat('"model": "m"', '"\\u006dodel": "other"'), "duplicate_model"),
    "escaped otherwise": (chat('"mod\\u0065l": "m"', '"\\u006D\\u006F\\u0064\\u0065\\u006C": "n"'), "duplicate_model"),
    "escaped and far": (
        chat('"model": "m"', '"x": [' + "1, " * 50_000 + "1]", '"mode\\u006c": "n"'),
        "duplicate_model",
    ),
}


async def test_what_is_no_json_or_means_two_things_reaches_no_engine(start: Start, tmp_path: Path) -> None:
    async with start({"models": {"m": fake_model(tmp_path, "m"), "other": fake_model(tmp_path, "other")}}) as client:
        for name, (body, code) in _BAD_JSON.items():
            assert await _error(client, body) == (400, code), name
        assert client.gateway.spawns() == 0


async def test_long_number_is_refused_or_reaches_the_engine_as_it_is(start: Start, tmp_path: Path) -> None:
    """5,000 digits are valid JSON, and no parser may be made to convert them."""
    async with start({"models": {"m": fake_model(tmp_path, "m")}}) as client:
        for number in ("9" * 5000, "-" + "9" * 5000, "0." + "9" * 5000, "1e" + "9" * 5000):
            body = chat('"model": "m"', f'"x": {number}')
            async with client.session.post(client.gateway.url + CHAT, data=body) as response:
                assert response.status in (200, 400), number[:10]
                assert response.content_type == "application/json"


async def _error(client: Client, body: bytes) -> tuple[int, str]:
    """Status and code of an answer that must have the whole envelope."""
    kind = {"Content-Type": "application/json"}
    async with client.session.post(client.gateway.url + CHAT, data=body, headers=kind) as response:
        assert response.content_type == "application/json"
        error = (await response.json())["error"]
        assert set(error) - {"detail"} == {"message", "type", "param", "code"}
        return response.status, error["code"]


_NAMES: dict[str, Any] = {
    "path": "../../etc/passwd",
    "absolute path": "/etc/passwd",
    "line breaks": "m\r\nX-Evil: 1\r\n\r\nHTTP/1.1 200 OK",
    "NUL": "m\0",
    "long": "m" * 10_000,
    "list": ["m"],
    "object": {"m": "m"},
    "number": 1,
    "truth": True,
    "colours": "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "half a surrogate": "\ud800",
    "other way round": "m\u202egnp.\u2066",
    "lines of other kinds": "m\u2028\u2029\x85\x0b",
    "shell": "m; touch /tmp/x `id` $(id) | cat",
    "format": "%s%n{0}{model.__class__}",
    "blanks": " ",
}
_RAW = ("\r", "\0", "\x1b", "\x07", "\u202e", "\u2028", "\x85", "X-Evil: 1\n")
"""What must not stand as it is where people read with a terminal."""


async def test_names_that_are_no_models_are_refused_and_escaped_wherever_they_show(
    start: Start, tmp_path: Path
) -> None:
    async with start({"models": {"m": fake_model(tmp_path, "m"), "other": fake_model(tmp_path, "other")}}) as client:
        for name, model in _NAMES.items():
            text = await _refusal(client, name, {"model": model})
            assert not any(raw in text for raw in _RAW), (name, text)
            assert len(text) < 2000, name
        assert client.gateway.spawns() == 0
        async with client.session.get(client.gateway.url + "/api/requests?limit=1000") as response:
            assert response.content_type == "application/json"
            rows = await response.text()
        for text in (rows, client.gateway.log):
            assert not any(raw in text for raw in (*_RAW, "<script>", "etc/passwd"))


async def _refusal(client: Client, name: str, fields: dict[str, Any]) -> str:
    async with client.session.post(client.gateway.url + CHAT, data=json.dumps({**fields, "messages": []})) as response:
        assert response.status in (400, 404), name
        assert response.content_type == "application/json", name
        assert "X-Evil" not in response.headers, name
        text = await response.text()
    assert json.loads(text)["error"]["code"] in ("invalid_json", "invalid_request", "model_not_found"), name
    return text
