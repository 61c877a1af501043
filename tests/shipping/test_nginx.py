"""docs/nginx.conf in a real nginx, with TLS, before a real gateway: streams, WebSocket and page below its prefix."""

import asyncio
import io
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.gateway import PATIENCE, GatewayProcess, chat_body, fake_model

ROOT = Path(__file__).parents[2]
CONFIGURATION = (ROOT / "docs" / "nginx.conf").read_text("utf-8")
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
OPENSSL = shutil.which("openssl")
NAME = "llm.example.com"
SILENT_AFTER = 3
"""Tokens, after which the engine waits for ever: what arrives has not waited for more."""

pytestmark = pytest.mark.skipif(not (NGINX and OPENSSL), reason="nginx or openssl is not installed")
FRAME = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


class Front:
    """The address that browsers see, and a session that trusts it."""

    def __init__(self, port: int, certificate: Path) -> None:
        self.url = f"https://{NAME}:{port}"
        trusted = ssl.create_default_context(cafile=str(certificate))
        self._connector = aiohttp.TCPConnector(ssl=trusted, resolver=_Here())
        self.session = aiohttp.ClientSession(connector=self._connector)


class _Here(aiohttp.abc.AbstractResolver):
    """Every name is this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing is kept."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    words = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={NAME} -addext subjectAltName=DNS:{NAME}".split()
    files = ("-keyout", str(folder / "key"), "-out", str(folder / "pem"))
    subprocess.run([str(OPENSSL), *words, *files], check=True, capture_output=True)
    return folder


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    model = fake_model(tmp_path, "qwen", env={"FAKE_HANG_AFTER_TOKENS": str(SILENT_AFTER)})
    server = {"port": 0, "base_path": "/llm", "allowed_hosts": [NAME]}
    async with GatewayProcess(tmp_path, {"server": server, "models": {"qwen": model}}).running() as gateway:
        yield gateway


@pytest.fixture(params=["prefix kept", "prefix taken away"])
async def front(
    request: pytest.FixtureRequest, gateway: GatewayProcess, certificate: Path, tmp_path: Path
) -> AsyncIterator[Front]:
    port = free_port()
    slash = "/" if request.param == "prefix taken away" else ""
    site = changed(CONFIGURATION, r"127\.0\.0\.1:8080", gateway.url.removeprefix("http://"))
    site = changed(site, r"listen 443", f"listen 127.0.0.1:{port}")
    site = changed(site, r"(?<= )/etc/ssl/\S+(pem|key);", rf"{certificate}/\1;")
    site = changed(site, r"proxy_pass http://llamaproxy;", f"proxy_pass http://llamaproxy{slash};")
    (tmp_path / "site.conf").write_text(site)
    (tmp_path / "nginx.conf").write_text(FRAME.format(folder=tmp_path))
    words = ("-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log"))
    nginx = await asyncio.create_subprocess_exec(str(NGINX), *words, stderr=asyncio.subprocess.DEVNULL)
    front = Front(port, certificate / "pem")
    try:
        await listening(port, nginx, tmp_path / "error.log")
        yield front
    finally:
        await front.session.close()
        if nginx.returncode is None:
            nginx.terminate()
        await asyncio.wait_for(nginx.wait(), PATIENCE)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def changed(text: str, pattern: str, value: str) -> str:
    """Where an example is for everybody, and a test is here."""
    result, count = re.subn(pattern, value, text)
    assert count, pattern
    return result


async def listening(port: int, nginx: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            assert nginx.returncode is None, f"see {log}"
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


async def test_tokens_arrive_while_the_engine_is_still_busy(front: Front) -> None:
    body = {**chat_body("qwen"), "stream": True}
    async with front.session.post(f"{front.url}/llm/v1/chat/completions", json=body) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        seen = b""
        async with asyncio.timeout(PATIENCE):
            while seen.count(b'"content":') < SILENT_AFTER:
                seen += await response.content.readany()
    assert b"[DONE]" not in seen


async def test_the_websocket_of_its_own_page_connects(front: Front) -> None:
    async with front.session.ws_connect(f"{front.url}/llm/llamaproxws", origin=front.url) as page:
        assert (await page.receive_json(timeout=PATIENCE))["event"] == "hello"


async def test_the_page_and_what_it_names_load(front: Front) -> None:
    async with front.session.get(f"{front.url}/llm") as response:
        assert (response.status, response.url.path) == (200, "/llm/")
        named = re.findall(r'(?:src|href)="(\./assets/[^"]+)"', await response.text())
    if not named:
        pytest.skip("the page was not built")
    for name in named:
        async with front.session.get(f"{front.url}/llm/{name}") as response:
            assert (response.status, response.headers["Cache-Control"][:6]) == (200, "public")


async def test_pages_of_others_may_not_act(front: Front) -> None:
    """Not even the page of the same name without TLS."""
    for origin, status in ((front.url, 200), (front.url.replace("https", "http"), 403), ("https://evil.com", 403)):
        headers = {"Origin": origin}
        async with front.session.post(f"{front.url}/llm/api/models/qwen/pin", json={}, headers=headers) as response:
            assert response.status == status, origin


async def test_a_body_as_large_as_the_gateway_takes_is_taken(front: Front) -> None:
    async with front.session.post(f"{front.url}/llm/tokenize", data=io.BytesIO(b"x" * 63 * 1024**2)) as response:
        assert (await response.json())["error"]["code"] == "invalid_json"
