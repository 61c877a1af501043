"""The whole gateway inside the test's own process, with fake engines."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestClient

from llamaproxy.config import Config
from llamaproxy.configfile import Fixed, Source
from llamaproxy.server import splice
from llamaproxy.server.app import Server
from llamaproxy.server.gateway import Gateway
from tests.folders import short_folder
from tests.gateway import FAKE_ENGINE, fake_model, to_toml

Serve = Callable[..., Awaitable[TestClient[Any, Any]]]
Beside = Callable[[TestClient[Any, Any], str], Awaitable[TestClient[Any, Any]]]


class InboundServer(BaseTestServer):
    """A server that is made already, on a port of its own."""

    def __init__(self, inbound: web.Server, others: Callable[[], Mapping[str, web.Server]] = dict) -> None:
        super().__init__(host="127.0.0.1")
        self.inbound = inbound
        self.others = others

    async def _make_runner(self, **_: Any) -> web.ServerRunner:
        return web.ServerRunner(self.inbound, shutdown_timeout=0)


def _source(file: Path | None, sections: dict[str, Any]) -> Source:
    if file is None:
        return Fixed(Config.model_validate(sections))
    file.write_text(to_toml(sections))
    return Source(file)


@pytest.fixture
async def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serve]:
    """Start a gateway from keyword sections; without models it has two, `m` and `org/n`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    clients: list[tuple[TestClient[Any, Any], Gateway]] = []

    async def start(file: Path | None = None, **sections: Any) -> TestClient[Any, Any]:
        """With `file` the sections stand there, and can be edited and read again."""
        sections.setdefault("models", {name: fake_model(tmp_path, name.replace("/", "-")) for name in ("m", "org/n")})
        sections["engine"] = {"binary": str(FAKE_ENGINE), **sections.get("engine", {})}
        source = _source(file, sections)
        gateway = Gateway(source.load(), short_folder(), source)
        server = Server(gateway)
        client: TestClient[Any, Any] = TestClient(InboundServer(server.inbound(), server.inbounds))
        await client.start_server()
        clients.append((client, gateway))
        return client

    yield start
    for client, gateway in clients:
        await gateway.close(0)
        await client.close()
        await gateway.settle()


@pytest.fixture
async def beside(serve: Serve) -> AsyncIterator[Beside]:
    """Start another listener of a gateway that is served, by the key of the configuration that has its port."""
    clients: list[TestClient[Any, Any]] = []

    async def start(client: TestClient[Any, Any], name: str) -> TestClient[Any, Any]:
        assert isinstance(client.server, InboundServer)
        other: TestClient[Any, Any] = TestClient(InboundServer(client.server.others()[name]))
        await other.start_server()
        clients.append(other)
        return other

    yield start
    for client in clients:
        await client.close()


@pytest.fixture(params=["as it comes", "by documented means"])
def known(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the inside of aiohttp is known: what the client sees must not depend on it."""
    monkeypatch.setattr(splice, "_KNOWN", request.param == "as it comes")
    return bool(request.param == "as it comes")
