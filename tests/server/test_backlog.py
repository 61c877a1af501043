"""llamaproxy.server.backlog: clients that take nothing of what was written to them lose their connection."""

import asyncio
import contextlib
import socket
import sys
from typing import cast

import pytest
from aiohttp import web

from llamaproxy.server.backlog import Backlog
from llamaproxy.server.inbound import Inbound
from llamaproxy.server.incoming import Request
from llamaproxy.server.lane import Handler
from llamaproxy.server.passthrough import ClientConnection, Sent
from tests.gateway import until
from tests.server.conftest import InboundServer
from tests.server.raw import connected

ANSWER = b"x" * 20_000_000


class Played(asyncio.WriteTransport):
    """A connection with so much in it, beside what the kernel has of it."""

    def __init__(self, connection: socket.socket | None = None) -> None:
        super().__init__({"socket": connection})
        self.size = 0
        self.ended = False

    def get_write_buffer_size(self) -> int:
        return self.size

    def abort(self) -> None:
        self.ended = True


@pytest.mark.parametrize(
    ("sizes", "ended"),
    [
        ([9, 9, 9], False),
        ([9, 9, 9, 9], True),
        ([9, 9, 8, 8, 8], False),
        ([9, 9, 8, 8, 8, 8], True),
        ([9, 9, 9 + 1, 9 + 1], False),
        ([9, 9, 0, 9, 9, 9], False),
        ([0] * 9, False),
    ],
)
def test_connection_that_stands_still_is_ended(sizes: list[int], ended: bool) -> None:
    """Looked at once a second, with a patience of three."""
    transport = Played()
    backlog = Backlog(transport)
    for now, transport.size in enumerate(sizes, start=1000):
        assert not transport.ended
        backlog.look(float(now), 3.0)
    assert transport.ended is ended


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what its sockets hold")
async def test_client_that_takes_little_at_a_time_does_not_stand_still() -> None:
    """The kernel makes room in large steps, and takes nothing of ours in between."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as ours:
        theirs, _ = listener.accept()
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while ours.send(bytes(1 << 20)):
                pass
        transport = Played(ours)
        transport.size = 9
        backlog = Backlog(transport)
        backlog.look(1000.0, 3.0)
        before = backlog._in_the_kernel()
        theirs.recv(1 << 20, socket.MSG_WAITALL)
        await until(lambda: backlog._in_the_kernel() < before, "the kernel knows")
        theirs.close()
        backlog.look(1003.0, 3.0)
        assert not transport.ended
        backlog.look(1006.0, 3.0)
        assert transport.ended


def test_connection_that_is_closed_holds_nothing() -> None:
    connection = socket.socket()
    connection.close()
    transport = Played(connection)
    transport.size = 9
    backlog = Backlog(transport)
    backlog.look(1000.0, 3.0)
    assert backlog._in_the_kernel() == 0


async def written(request: Request) -> web.StreamResponse:
    ClientConnection(request).write(ANSWER)
    return Sent(200, keep_alive=True)


async def written_and_closed(request: Request) -> web.StreamResponse:
    ClientConnection(request).write(ANSWER)
    return Sent(200, keep_alive=False)


async def left_to_aiohttp(request: Request) -> web.StreamResponse:
    return web.Response(body=ANSWER)


@pytest.mark.parametrize("target", ["/v1/completions", "/v1/completions?way=long"])
@pytest.mark.parametrize("handler", [written, written_and_closed, left_to_aiohttp])
async def test_client_that_takes_nothing_has_no_connection_for_ever(target: str, handler: Handler) -> None:
    answering = asyncio.Event()

    async def answer(request: Request) -> web.StreamResponse:
        answering.set()
        return await handler(request)

    inbound = Inbound(answer, lambda: 0.4, still=lambda: 0.3)
    async with InboundServer(inbound) as server, connected(server.port) as (_, writer):
        cast(asyncio.Transport, writer.transport).pause_reading()
        writer.write(f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi".encode())
        await answering.wait()
        await until(lambda: not inbound.connections and not len(inbound._lanes), "its connection is gone")
