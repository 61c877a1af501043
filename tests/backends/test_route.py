"""Ways to backends. That certificates are verified and proxies ignored is in test_upstream."""

import asyncio
import socket
from pathlib import Path

import pytest

from llamaproxy.backends import route as module
from llamaproxy.backends.command import Address
from llamaproxy.backends.route import route_to
from llamaproxy.backends.wire import Connection


async def test_engines_here_are_called_by_no_name_of_theirs() -> None:
    over_socket, over_tcp = route_to(Address(socket=Path("/s"))), route_to(Address(port=1234))
    assert (over_socket.host, over_socket.prefix) == ("localhost", "")
    assert (over_tcp.host, over_tcp.prefix) == ("127.0.0.1:1234", "")


@pytest.mark.parametrize(
    ("url", "host", "prefix"),
    [
        ("http://box", "box", ""),
        ("http://box:81/", "box:81", ""),
        ("http://[::1]:81/a/b/", "[::1]:81", "/a/b"),
        ("https://user:word@box/a", "box", "/a"),
    ],
)
async def test_servers_elsewhere_are_called_as_they_are_configured(url: str, host: str, prefix: str) -> None:
    route = route_to(Address(url=url))
    assert (route.host, route.prefix) == (host, prefix)
    assert route.max_idle > route_to(Address(port=1)).max_idle


async def test_server_that_lets_nobody_in_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CONNECT_TIMEOUT", 0.05)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        with socket.create_connection(address), pytest.raises(ConnectionError, match="no connection within"):
            for _ in range(5):
                await route_to(Address(url=f"http://127.0.0.1:{address[1]}")).connect(Connection)
    await asyncio.sleep(0)
