"""What the gateway must refuse at its door, and how: always in JSON, and with nothing read behind it."""

import asyncio
import contextlib
import json
import resource
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.conftest import KEY, Start
from tests.faults.framings import CHUNKED, CHUNKS, HIDDEN, LENGTH, post, start_line
from tests.faults.raw import answers, chat_request, connected
from tests.gateway import Client, Table, fake_model


def recorded(folder: Path) -> Table:
    return fake_model(folder, "m", env={"FAKE_RECORD": "1"})


async def told(client: Client, data: bytes) -> bytes:
    async with connected(client.gateway.url) as (reader, writer):
        writer.write(data)
        return (await answers(reader, 5))[0]


def asked(client: Client) -> list[str]:
    """The targets of what the engine has got from clients."""
    return [line[5] for line in client.gateway.journal() if line[0] == "request" and line[4] != "-"]


def error(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/json" in head.lower(), answer
    found: dict[str, Any] = json.loads(body)["error"]
    return found


_MALFORMED = [
    b"NONSENSE\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \x00\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
    b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n",
]


async def test_malformed_http_is_answered_in_json(start: Start, tmp_path: Path) -> None:
    async with start({"models": {"m": recorded(tmp_path)}}) as client:
        for data in _MALFORMED:
            answer = await told(client, data)
            assert 400 <= int(answer[9:12]) < 500 or int(answer[9:12]) == 505, data[:80]
            assert error(answer)["code"]


async def test_slow_writer_of_a_head_has_its_deadline(start: Start, tmp_path: Path) -> None:
    config: dict[str, Table] = {
        "models": {"m": recorded(tmp_path)},
        "server": {"port": 0, "header_timeout": "300ms"},
    }
    async with start(config) as client:
        for part in (1, 20, 150):
            answer = await told(client, chat_request("slow", KEY, b"{}")[:part])
            assert (answer[9:12], error(answer)["code"]) == (b"408", "request_timeout"), part


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity, chunked", "deflate,chunked"])
async def test_body_whose_coding_is_not_known_reaches_no_engine(start: Start, tmp_path: Path, coding: str) -> None:
    """It would be passed on as content that it is not. Source: RFC 9112, section 6.1."""
    async with start({"models": {"m": recorded(tmp_path)}}) as client:
        answer = await told(client, post(f"Transfer-Encoding: {coding}\r\n".encode(), CHUNKS))
        assert int(answer[9:12]) in (400, 501)
        assert asked(client) == []


async def test_coding_without_a_name_beside_a_length_is_refused(start: Start, tmp_path: Path) -> None:
    async with start({"models": {"m": recorded(tmp_path)}}) as client:
        for field in (b"Transfer-Encoding:", b"Transfer-Encoding: ", b"Transfer-Encoding: ,"):
            assert (await told(client, post(field + b"\r\n" + LENGTH, HIDDEN)))[9:12] == b"400", field
        assert asked(client) == []


@pytest.mark.parametrize(("framing", "body"), [(LENGTH, HIDDEN), (CHUNKED, CHUNKS)], ids=["length", "chunks"])
async def test_body_of_connect_is_no_request(start: Start, tmp_path: Path, framing: bytes, body: bytes) -> None:
    """Whoever stands in front may have taken what follows for its body."""
    async with start({"models": {"m": recorded(tmp_path)}}) as client:
        answer = await told(client, post(framing, body, start_line(b"CONNECT", b"case")))
        assert 400 <= int(answer[9:12]) < 500
        assert not [target for target in asked(client) if "hidden" in target]


async def test_who_asks_before_sending_too_much_is_not_told_to_go_on(start: Start, tmp_path: Path) -> None:
    async with start({"models": {"m": recorded(tmp_path)}}) as client:
        answer = await told(client, post(b"Expect: 100-continue\r\nContent-Length: 1073741824\r\n", b""))
        assert answer[9:12] == b"413"


async def test_what_ends_a_conversation_says_so(start: Start, tmp_path: Path) -> None:
    """The rest of the body is read by nobody. Source: RFC 9110, section 15.5.9."""
    config: dict[str, Table] = {"models": {"m": recorded(tmp_path)}, "server": {"port": 0, "body_timeout": "300ms"}}
    async with start(config) as client:
        for length, status in ((1000, b"408"), (1 << 40, b"413")):
            answer = await told(client, post(b"Content-Length: %d\r\n" % length, b""))
            assert answer[9:12] == status
            assert b"\r\nconnection: close\r\n" in answer.lower()


@pytest.mark.skipif(sys.platform != "linux", reason="setting the limits of another process is Linux's own")
async def test_engine_is_not_blamed_for_what_the_gateway_lacks(start: Start, tmp_path: Path) -> None:
    models: dict[str, Table] = {name: fake_model(tmp_path, name) for name in ("warm", "cold")}
    async with start({"models": models}) as client:
        await client.chat("warm")
        resource.prlimit(client.gateway.pid, resource.RLIMIT_NOFILE, (64, 64))
        await asyncio.gather(*(_ask(client, name) for name in ("warm", "cold") * 100))
        for name in models:
            assert (await client.model(name))["breaker"]["state"] == "closed", name
            assert (await client.chat(name))[0] == 200
        assert client.gateway.spawns("warm") == 1


async def _ask(client: Client, name: str) -> None:
    with contextlib.suppress(aiohttp.ClientConnectionError):
        await client.chat(name)
