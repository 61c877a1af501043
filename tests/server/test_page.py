"""llamaproxy.server.page: the dashboard's file, wherever it lies."""

from pathlib import Path

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

from llamaproxy.server import page

DASHBOARD = Path(__file__).parents[2] / "dashboard" / "index.html"


async def fetch(aiohttp_client: AiohttpClient) -> tuple[str, dict[str, str]]:
    app = web.Application()
    app.router.add_get("/", page.index)
    client = await aiohttp_client(app)
    async with client.get("/") as response:
        assert response.status == 200
        return await response.text(), dict(response.headers)


async def test_it_is_the_repositorys_file(aiohttp_client: AiohttpClient) -> None:
    text, _ = await fetch(aiohttp_client)
    assert text == DASHBOARD.read_text("utf-8")


async def test_the_built_in_one_comes_first(
    aiohttp_client: AiohttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, source = tmp_path / "built.html", tmp_path / "source.html"
    built.write_text("<p>gebaut: ü", "utf-8")
    source.write_text("<p>source", "utf-8")
    monkeypatch.setattr(page, "_PLACES", (built, source))
    assert (await fetch(aiohttp_client))[0] == "<p>gebaut: ü"


async def test_where_there_is_none_it_says_so(aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_PLACES", ())
    text, headers = await fetch(aiohttp_client)
    assert "not built in" in text
    assert "/api/models" in text
    assert headers["Content-Type"].startswith("text/html")


async def test_other_pages_cannot_frame_it_and_it_loads_nothing_from_elsewhere(aiohttp_client: AiohttpClient) -> None:
    _, headers = await fetch(aiohttp_client)
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-cache"
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert not any("*" in sources or "http" in sources for sources in policy.values())


def test_the_page_itself_works_offline() -> None:
    text = DASHBOARD.read_text("utf-8")
    assert "http://" not in text.replace("http://www.w3.org/", "")
    assert "https://" not in text
