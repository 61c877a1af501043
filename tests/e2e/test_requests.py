"""A request that runs, seen from a browser."""

import re

import aiohttp
import pytest
from playwright.async_api import expect

from llamaproxy.tasks import spawn
from tests.e2e.browser import MODEL
from tests.e2e.conftest import Open
from tests.gateway import Client

pytestmark = pytest.mark.asyncio(loop_scope="session")

LONG = {"max_tokens": 1900, "ignore_eos": True}


async def test_tokens_are_seen_as_they_arrive_and_a_request_is_cancelled(open_page: Open, client: Client) -> None:
    heard = bytearray()

    async def listen() -> None:
        with pytest.raises(aiohttp.ClientPayloadError):  # no end: nobody takes it for a whole answer
            async with client.stream(MODEL, **LONG) as response:
                async for piece in response.content.iter_any():
                    heard.extend(piece)

    page = await open_page("requests")
    listening = spawn(listen(), name="client")
    flight = page.get_by_role("table", name="Requests in flight").get_by_role("row").filter(has_text=MODEL)
    await expect(flight.get_by_text("Generating")).to_be_visible()
    tokens = flight.locator("td").nth(4)
    await expect(tokens).to_have_text(re.compile("[0-9]"))
    first = await tokens.inner_text()
    await expect(tokens).not_to_have_text(first)

    await flight.get_by_role("button", name="Cancel").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel the request").click()
    await expect(flight).to_have_count(0)
    await listening
    assert b"request_cancelled" in heard


async def test_enter_opens_a_row_and_does_not_close_it_again(open_page: Open, client: Client) -> None:
    async with client.stream(MODEL, max_tokens=4) as response:
        await response.read()
    page = await open_page("requests")
    row = page.get_by_role("table", name="Finished requests").locator("tbody tr").first
    await row.press("Enter")
    drawer = page.get_by_role("dialog", name="Request")
    await expect(drawer.get_by_text("Where the time went")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(drawer).to_have_count(0)


async def test_back_closes_a_drawer_and_its_link_can_be_shared(open_page: Open, client: Client) -> None:
    async with client.stream(MODEL, max_tokens=4) as response:
        await response.read()
    page = await open_page("models")
    await page.goto(page.url.replace("models", "requests"))
    before = page.url
    row = page.get_by_role("table", name="Finished requests").locator("tbody tr").first
    drawer = page.get_by_role("dialog", name="Request")
    for close in ("back", "Escape", "Close"):
        await row.press("Enter")
        await expect(drawer).to_be_visible()
        shared = page.url
        if close == "back":
            await page.go_back()
        elif close == "Escape":
            await page.keyboard.press("Escape")
        else:
            await drawer.get_by_role("button", name="Close").click()
        await expect(drawer).to_have_count(0)
        await expect(page).to_have_url(before)
        await page.go_forward()
        await expect(drawer).to_be_visible()
        await page.go_back()
        await expect(drawer).to_have_count(0)
    await page.go_back()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Models")

    other = await open_page(shared.removeprefix(f"{client.gateway.url}/"))
    drawer = other.get_by_role("dialog", name="Request")
    await expect(drawer).to_be_visible()
    await other.keyboard.press("Escape")
    await expect(drawer).to_have_count(0)
    await expect(other).to_have_url(before)


async def test_a_row_says_why_it_failed(open_page: Open, client: Client) -> None:
    async with client.stream("nobody") as response:
        assert response.status == 404
    page = await open_page("requests")
    row = page.get_by_role("table", name="Finished requests").locator("tbody tr").first
    await expect(row).to_contain_text("404: no such model or address")
    await row.press("Enter")
    await expect(page.get_by_role("dialog", name="Request").get_by_text("model_not_found")).to_be_visible()
