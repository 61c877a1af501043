"""A gateway that goes away and comes back under an open page."""

import contextlib
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Browser, expect

from tests.e2e.browser import MODEL, settings
from tests.e2e.conftest import Open
from tests.e2e.test_models import row
from tests.gateway import Client, GatewayProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_page_says_that_it_is_old_and_is_right_again_after_a_restart(
    browser: Browser, open_page: Open, tmp_path: Path
) -> None:
    gateway = GatewayProcess(tmp_path, settings())
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(gateway.running())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        page = await open_page("models", url=gateway.url)
        await row(page, MODEL).get_by_role("button", name="Start", exact=True).click()
        await expect(row(page, MODEL).get_by_text("Ready", exact=True)).to_be_visible()
        await Client(gateway, session).state_is(MODEL, "ready")

        await gateway.stop()
        await expect(page.get_by_text("Disconnected, data from")).to_be_visible()
        await expect(row(page, MODEL)).to_be_visible()

        port = int(gateway.url.rpartition(":")[2])
        gateway.write({**settings(), "server": {"port": port}})
        await gateway.start()
        await expect(page.get_by_text("Disconnected, data from")).to_have_count(0)
        await expect(row(page, MODEL).get_by_text("Stopped", exact=True)).to_be_visible()
