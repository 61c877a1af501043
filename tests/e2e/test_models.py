"""Models, from a browser: what can be done to them, and that looking does nothing."""

import re

import pytest
from playwright.async_api import Locator, Page, expect

from tests.e2e.browser import MODEL, OTHER
from tests.e2e.conftest import Open
from tests.gateway import Client

pytestmark = pytest.mark.asyncio(loop_scope="session")


def row(page: Page, model: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("button", name=model, exact=True))


async def test_a_model_is_loaded_and_stopped_after_a_question(open_page: Open, client: Client) -> None:
    async with client.post(f"/api/models/{MODEL}/stop", {}) as response:
        assert response.status == 200
    await client.state_is(MODEL, "stopped")
    page = await open_page("models")
    model = row(page, MODEL)
    await model.get_by_role("button", name=re.compile("^(Start|Retry)$")).click()
    await expect(model.get_by_text("Ready", exact=True)).to_be_visible()
    assert (await client.model(MODEL))["state"] == "ready"

    await model.get_by_role("button", name="Stop", exact=True).click()
    question = page.get_by_role("dialog", name=f"Stop {MODEL}?")
    await question.get_by_role("button", name="Cancel").click()
    await expect(question).to_have_count(0)
    assert (await client.model(MODEL))["state"] == "ready"

    await model.get_by_role("button", name="Stop", exact=True).click()
    await question.get_by_role("button", name="Stop").click()
    await expect(model.get_by_text("Stopped", exact=True)).to_be_visible()
    assert (await client.model(MODEL))["state"] == "stopped"


async def test_looking_at_a_model_loads_nothing(open_page: Open, client: Client) -> None:
    starts = (await client.model(OTHER))["starts"]
    page = await open_page("models")
    await row(page, OTHER).get_by_role("button", name=OTHER, exact=True).click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert (await client.model(OTHER))["starts"] == starts
