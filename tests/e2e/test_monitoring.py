"""The machine in a browser."""

import re

import pytest
from playwright.async_api import expect

from tests.e2e.conftest import Open

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_charts_and_health_are_told_in_words(open_page: Open) -> None:
    page = await open_page("monitoring")
    await expect(page.get_by_role("img", name=re.compile(r"^Use of the processor: CPU \d+ %$"))).to_be_visible()
    await expect(page.get_by_role("heading", name="Health")).to_be_visible()
    await page.get_by_text("Where things are").click()
    await expect(page.get_by_text("Database", exact=True)).to_be_visible()


async def test_the_range_stands_in_the_address_and_its_past_is_asked_for(open_page: Open) -> None:
    page = await open_page("monitoring")
    async with page.expect_response(re.compile(r"/api/system/history\?range=24h$")) as answer:
        await page.get_by_text("24 h", exact=True).click()
    assert (await answer.value).ok
    await page.reload()
    await expect(page.get_by_role("radio", name="24 h")).to_be_checked()
