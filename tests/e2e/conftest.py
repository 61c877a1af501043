"""The page in a real browser, in front of a real gateway with the embedded engine and its bundled model.

Owns what the flows start from. Nothing here waits by the clock: Playwright's `expect` waits for what should be seen.
"""

import importlib.util
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from llamaproxy.backends.engine import bundled_model
from tests.gateway import Client, GatewayProcess, Table

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "dashboard"
AXE = DASHBOARD / "node_modules" / "axe-core" / "axe.min.js"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PAGES = re.findall(r'\{ name: "([a-z]+)"', (DASHBOARD / "src" / "routes.ts").read_text("utf-8"))
EXPECTED = ("Failed to load resource", "ERR_CONNECTION_REFUSED")
"""What browsers themselves say of a gateway that is gone."""
WIDE, PHONE = (1280, 800), (390, 844)
MODEL, OTHER = "smollm2", "other"

Open = Callable[..., Awaitable[Page]]

expect.set_options(timeout=20_000)


def missing() -> str | None:
    """What these tests cannot do without."""
    if not any(map(shutil.which, BROWSERS)):
        return f"no browser on PATH: one of {', '.join(BROWSERS)}"
    if not (ROOT / "llamaproxy" / "server" / "page" / "index.html").is_file():
        return "the page was not built"
    if importlib.util.find_spec("xllamacpp") is None or not bundled_model():
        return "the embedded engine or the bundled model is not installed"
    return None


def settings() -> dict[str, Table]:
    small = {"path": str(bundled_model()), "ctx_size": 2048, "parallel": 1}
    return {
        "engine": {"binary": "embedded", "args": ["--threads", "2"]},
        "limits": {"models_max": 1},
        "models": {MODEL: small, OTHER: small},
    }


@pytest_asyncio.fixture(loop_scope="session", scope="package")
async def browser() -> AsyncIterator[Browser]:
    if reason := missing():
        pytest.skip(reason)
    path = next(filter(None, map(shutil.which, BROWSERS)))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session", scope="package")
async def gateway(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path_factory.mktemp("gateway"), settings())
    async with gateway.running():
        yield gateway


@pytest_asyncio.fixture(loop_scope="session")
async def client(gateway: GatewayProcess) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(gateway, session)


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Browser, gateway: GatewayProcess) -> AsyncIterator[Open]:
    """Opens a page of the gateway; one whose console has errors fails its test."""
    complaints: list[str] = []
    contexts = []

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(one in message.text for one in EXPECTED):
            complaints.append(message.text)

    async def open_page(path: str = "", size: tuple[int, int] = WIDE, url: str | None = None) -> Page:
        width, height = size
        context = await browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce")
        contexts.append(context)
        page = await context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(f"{url or gateway.url}/{path}")
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        return page

    yield open_page
    for context in contexts:
        await context.close()
    assert complaints == []
