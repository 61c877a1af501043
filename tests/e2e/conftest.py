"""The page in a real browser, in front of a real gateway with the embedded engine and its bundled model.

Owns what the flows start from. Nothing here waits by the clock: Playwright's `expect` waits for what should be seen.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from tests.e2e.browser import launched, missing, settings
from tests.gateway import Client, GatewayProcess

EXPECTED = ("Failed to load resource", "ERR_CONNECTION_REFUSED")
"""What browsers themselves say of a gateway that is gone."""
WIDE, PHONE = (1280, 800), (390, 844)

Open = Callable[..., Awaitable[Page]]

expect.set_options(timeout=20_000)


@pytest_asyncio.fixture(loop_scope="session", scope="package")
async def browser() -> AsyncIterator[Browser]:
    if reason := missing():
        pytest.skip(reason)
    async with launched() as browser:
        yield browser


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
    contexts: list[BrowserContext] = []

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
