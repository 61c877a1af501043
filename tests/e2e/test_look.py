"""Every page in both themes and on a phone: axe objects to nothing, no action is lost, nothing is too wide."""

from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.e2e.browser import AXE, PAGES
from tests.e2e.conftest import PHONE, Open
from tests.gateway import Client

ONLY_COLOURS = ("color-contrast", "link-in-text-block")
"""Rules about what the themes have not in common."""

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def settled(page: Page) -> None:
    """It is live, and no panel loads any more."""
    await expect(page.get_by_role("status").get_by_text("Loading", exact=True)).to_have_count(0)


async def objections(page: Page, rules: tuple[str, ...] = ()) -> list[str]:
    """What axe says, by all of its rules unless some are named."""
    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    found: dict[str, Any] = await page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{one['id']}: {node['target']} {node['html'][:160]}" for one in found["violations"] for node in one["nodes"]
    ]


@pytest.mark.parametrize("name", PAGES)
async def test_axe_finds_nothing_in_either_theme(open_page: Open, name: str) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: make dashboard-check")
    page = await open_page(name)
    await settled(page)
    # The page's own policy forbids scripts that are not its own; evaluated ones are the debugger's.
    await page.evaluate(AXE.read_text("utf-8"))
    await expect(page.locator("html")).to_have_attribute("data-theme", "light")
    assert await objections(page) == []
    await page.emulate_media(color_scheme="dark")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert await objections(page, rules=ONLY_COLOURS) == []


@pytest.mark.parametrize("name", PAGES)
async def test_a_phone_has_every_action_and_scrolls_in_one_direction(open_page: Open, name: str) -> None:
    page = await open_page(name)
    await settled(page)
    wide = await actions(page)
    await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    missing = wide
    for _ in range(40):  # what is another on a phone is drawn anew
        if not (missing := wide - await actions(page)):
            break
        await page.wait_for_timeout(50)
    assert missing == set()
    assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]


async def test_looking_at_pages_starts_no_model(open_page: Open, client: Client) -> None:
    async def starts() -> dict[str, int]:
        return {model["name"]: model["starts"] for model in (await client.get("/api/models"))["models"]}

    before = await starts()
    page = await open_page()
    for name in PAGES:
        await page.goto(f"{client.gateway.url}/{name}")
        await settled(page)
    assert await starts() == before


async def actions(page: Page) -> set[str]:
    """Names of what can be pressed, but for heads of tables: a phone has a list of orders instead."""
    names: list[str] = await page.evaluate(
        """() => [...document.querySelectorAll("main button, main select, main input")]
          .filter((one) => one.checkVisibility() && !one.closest("th, [role=log]"))
          .map((one) => (one.getAttribute("aria-label") ?? one.labels?.[0]?.textContent ?? one.textContent).trim())"""
    )
    return set(names)


async def test_every_page_can_be_reached_on_a_phone(open_page: Open) -> None:
    page = await open_page(size=PHONE)
    await page.get_by_role("button", name="More").click()
    reached = await page.locator(".bar a, .sheet a").evaluate_all("all => all.map((one) => one.pathname.slice(1))")
    assert sorted(reached) == sorted(PAGES)
