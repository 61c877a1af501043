"""Several addresses of one gateway: all are there, or what is in the way is named."""

import errno
import socket

import aiohttp
import pytest
from aiohttp import web

from llamaproxy.backends.ports import free_port
from llamaproxy.config import ServerConfig
from llamaproxy.server.inbound import Inbound
from llamaproxy.server.incoming import Request
from llamaproxy.server.listeners import Listeners


def saying(word: str) -> Inbound:
    async def handle(request: Request) -> web.StreamResponse:
        return web.Response(text=word)

    return Inbound(handle, lambda: 10.0)


async def test_each_answers_at_its_own_port() -> None:
    config = ServerConfig(port=0, ollama_port=free_port())
    listeners = Listeners(config, {"port": saying("own"), "ollama_port": saying("other")})
    await listeners.start()
    try:
        assert listeners.urls["ollama_port"] == f"http://127.0.0.1:{config.ollama_port}"
        async with aiohttp.ClientSession() as session:
            said = {name: await (await session.get(url)).text() for name, url in listeners.urls.items()}
        assert said == {"port": "own", "ollama_port": "other"}
    finally:
        await listeners.close()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"http://127.0.0.1:{config.ollama_port}")


async def test_a_port_that_is_taken_is_named_with_its_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listeners = Listeners(
            ServerConfig(port=0, lmstudio_port=port), {"port": saying("own"), "lmstudio_port": saying("other")}
        )
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port} \(server\.lmstudio_port\)") as refused:
            await listeners.start()
        assert refused.value.errno == errno.EADDRINUSE
        await listeners.close()


async def test_an_address_of_version_6_stands_in_brackets() -> None:
    listeners = Listeners(ServerConfig(host="::1", port=0), {"port": saying("own")})
    await listeners.start()
    try:
        assert listeners.urls["port"].startswith("http://[::1]:")
    finally:
        await listeners.close()
