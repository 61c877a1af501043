"""Servers elsewhere, for tests.

A site tells its health as it is told to, and can go and come back at its address; a keeper keeps connections.
"""

import asyncio
import contextlib
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import pytest
from aiohttp import web

from llamaproxy.backends.command import Address
from llamaproxy.backends.ports import free_port
from llamaproxy.backends.upstream import Upstream


class Site:
    """`statuses` by path, 404 for any other; `gate` is closed to keep everybody waiting for an answer's head.

    Answers repeat what was asked. /stream begins one that ends when `finish` is set.
    """

    def __init__(self, prefix: str = "") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}{prefix}"
        self.statuses = {f"{prefix}/health": 200}
        self.gate = asyncio.Event()
        self.gate.set()
        self.finish = asyncio.Event()
        self.asked: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.says: dict[str, str] = {}
        self._runner: web.AppRunner | None = None

    async def come(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def go(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        await self.come()
        try:
            yield self
        finally:
            self.gate.set()
            self.finish.set()
            await self.go()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked[request.path] += 1
        self.headers.append(dict(request.headers))
        await self.gate.wait()
        if request.path.endswith("/stream"):
            return await self._stream(request)
        said = {
            "path": request.path_qs,
            "headers": dict(request.headers),
            "body": (await request.read()).decode(),
        }
        return web.json_response(said, status=self.statuses.get(request.path, 404), headers=self.says)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await self.finish.wait()
        await response.write(b"last")
        return response


class Keeper:
    """A server that keeps connections; `closing` ones are closed at the first byte of their next request."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests = 0
        self.closing = False
        self.answering = True
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        served = 0
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                if not self.answering or (self.closing and served):
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                served += 1
        writer.close()

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def keeper_elsewhere() -> AsyncIterator[tuple[Upstream, Keeper]]:
    """The way to a keeper, as to a server elsewhere."""
    keeper = Keeper()
    server = await asyncio.start_server(keeper.serve, "127.0.0.1", port := free_port())
    upstream = Upstream(Address(url=f"http://127.0.0.1:{port}/base"))
    try:
        yield upstream, keeper
    finally:
        await upstream.close()
        keeper.hang_up()
        server.close()


def self_signed(folder: Path) -> ssl.SSLContext:
    """A certificate that nobody vouches for."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    words = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -days 1".split()
    made = subprocess.run([*words, "-keyout", str(key), "-out", str(certificate)], capture_output=True)
    if made.returncode:
        pytest.skip("openssl cannot make a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
