"""llamaproxy.server.page: the dashboard's files, and which addresses are theirs."""

import gzip
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from llamaproxy.errors import MethodNotAllowed, NotFound
from llamaproxy.server import page

Client = TestClient[web.Request, web.Application]
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
SCRIPT = b"export const answer = 42;\n"


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page as the build leaves it."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<p>gebaut: ü", "utf-8")
    (tmp_path / "assets" / "index-Ab_1.js").write_bytes(SCRIPT)
    (tmp_path / "assets" / "index-Ab_1.js.gz").write_bytes(gzip.compress(SCRIPT))
    monkeypatch.setattr(page, "_FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> Client:
    """Whoever asks for what is not the page's gets 418."""

    async def serve(request: web.Request) -> web.StreamResponse:
        answer = page.handler(request, request.path)
        if answer is None:
            return web.Response(status=418)
        try:
            return await answer(request)
        except (MethodNotAllowed, NotFound) as error:
            return web.Response(status=error.status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    make: Callable[[web.Application], Awaitable[Client]] = aiohttp_client
    return await make(app)


class TestAddresses:
    @pytest.mark.parametrize("path", sorted(page.PATHS))
    async def test_every_page_is_the_one_document(self, client: Client, built: Path, path: str) -> None:
        async with client.get(path, headers=HTML) as response:
            assert response.status == 200
            assert response.content_type == "text/html"
            assert await response.text() == "<p>gebaut: ü"

    async def test_a_browser_that_reloads_a_page_has_the_newest(self, client: Client, built: Path) -> None:
        async with client.get("/logs") as response:
            assert response.headers["Cache-Control"] == "no-cache"

    @pytest.mark.parametrize("accept", ["application/json", "*/*", ""])
    async def test_programs_that_ask_for_models_do_not_get_it(self, client: Client, built: Path, accept: str) -> None:
        async with client.get("/models", headers={"Accept": accept}) as response:
            assert response.status == 418

    async def test_caches_may_not_mix_up_the_two(self, client: Client, built: Path) -> None:
        async with client.get("/models", headers=HTML) as response:
            assert response.headers["Vary"] == "Accept"

    @pytest.mark.parametrize("path", ["/chat/completions", "/v1/models", "/api/models", "/dashboard.html", "/assets"])
    async def test_other_paths_are_not_the_pages(self, client: Client, built: Path, path: str) -> None:
        async with client.get(path, headers=HTML) as response:
            assert response.status == 418

    @pytest.mark.parametrize("path", ["/", "/chat", "/assets/index-Ab_1.js"])
    async def test_it_can_only_be_read(self, client: Client, built: Path, path: str) -> None:
        async with client.post(path) as response:
            assert response.status == 405


class TestAssets:
    async def test_they_never_change(self, client: Client, built: Path) -> None:
        async with client.get("/assets/index-Ab_1.js", headers={"Accept-Encoding": "identity"}) as response:
            assert await response.read() == SCRIPT
            assert response.content_type.endswith("/javascript")
            assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"

    async def test_whoever_takes_gzip_gets_the_sibling(self, client: Client, built: Path) -> None:
        (built / "assets" / "index-Ab_1.js.gz").write_bytes(gzip.compress(b"compressed before"))
        async with client.get("/assets/index-Ab_1.js", headers={"Accept-Encoding": "gzip"}) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert await response.read() == b"compressed before"

    @pytest.mark.parametrize(
        "name", ["other.js", "..%2findex.html", "%2e%2e/index.html", ".hidden", "a" * 200, "%00", "x%5c..%5cindex.html"]
    )
    async def test_nothing_else_can_be_read(self, client: Client, built: Path, name: str) -> None:
        (built / "assets" / ".hidden").write_text("secret", "utf-8")
        async with client.get(f"/assets/{name}") as response:
            assert response.status in (404, 418)


async def test_where_it_was_not_built_it_says_so(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "_FOLDER", tmp_path / "none")
    async with client.get("/") as response:
        text = await response.text()
    assert "not built" in text
    assert "api/models" in text


@pytest.mark.parametrize("path", ["/", "/assets/index-Ab_1.js"])
async def test_it_loads_nothing_from_elsewhere_and_nobody_frames_it(client: Client, built: Path, path: str) -> None:
    async with client.get(path) as response:
        headers = response.headers
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy.pop("default-src") == "'self'"
    assert set(policy.values()) == {"'none'"}
