"""A conversation with a real model, in a browser: answers that end early, and questions without one."""

import json
from typing import Any

import pytest
from playwright.async_api import Locator, Page, Route, expect

from tests.e2e.browser import MODEL, OTHER
from tests.e2e.conftest import Open

pytestmark = pytest.mark.asyncio(loop_scope="session")


def field(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Message")


async def ask(page: Page, text: str) -> None:
    await field(page).fill(text)
    await field(page).press("Enter")


async def limit(page: Page, tokens: int) -> None:
    """The likeliest words only: by chance, an answer may end before its limit."""
    await page.get_by_role("button", name="Chat settings").click()
    await page.get_by_label("Temperature").fill("0")
    await page.get_by_label("Most tokens").fill(str(tokens))
    await page.get_by_role("dialog").get_by_role("button", name="Save").click()


async def test_answer_that_is_cut_off_says_so_and_goes_on(open_page: Open) -> None:
    page = await open_page(f"chat?model={MODEL}")
    await limit(page, 8)
    await ask(page, "Write a very long story about the sea")
    answer = page.get_by_role("article", name=MODEL)
    await expect(answer.get_by_text("Cut off")).to_be_visible()
    words = answer.locator(".prose")
    first = await words.inner_text()

    await page.reload()
    await expect(answer.get_by_text("Cut off")).to_be_visible()
    await answer.get_by_role("button", name="Continue").click()
    await expect(answer.get_by_text("16 tokens")).to_be_visible()
    whole = await words.inner_text()
    assert whole.startswith(first.strip()) and len(whole) > len(first)
    assert whole.count(first.strip()) == 1, "what was there is not said again"
    await expect(answer).to_have_count(1)


async def test_answer_that_was_stopped_says_so(open_page: Open) -> None:
    page = await open_page(f"chat?model={MODEL}")
    await ask(page, "Write a very long story about the sea")
    answer = page.get_by_role("article", name=MODEL)
    await expect(answer.locator(".prose")).to_be_visible()
    await page.get_by_role("button", name="Stop").click()
    await expect(answer.get_by_text("Stopped by you")).to_be_visible()
    await page.reload()
    await expect(answer.get_by_text("Stopped by you")).to_be_visible()


async def test_question_that_failed_is_edited_or_asked_again_and_never_twice(open_page: Open) -> None:
    page = await open_page(f"chat?model={MODEL}")
    sent: list[list[dict[str, Any]]] = []

    async def refuse(route: Route) -> None:
        sent.append(json.loads(route.request.post_data or "")["messages"])
        await route.fulfill(status=503, json={"error": {"message": "no memory", "code": "model_out_of_memory"}})

    await page.route("**/v1/chat/completions", refuse)
    await ask(page, "Helo")
    await expect(page.get_by_role("alert")).to_contain_text("There is not enough memory")
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_role("alert")).to_be_visible()

    await page.get_by_role("combobox", name="Model").select_option(OTHER)
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_role("alert")).to_be_visible()

    await page.reload()
    await expect(page.get_by_text("This question has no answer")).to_be_visible()
    await page.get_by_role("button", name="Edit").click()
    await expect(field(page)).to_have_value("Helo")
    await ask(page, "Hello")
    await expect(page.get_by_role("article", name="You")).to_have_text(["Hello"])
    await expect(page.get_by_role("alert")).to_be_visible()
    assert sent == [[{"role": "user", "content": text}] for text in ("Helo", "Helo", "Helo", "Hello")]


async def test_back_closes_the_drawer_of_conversations(open_page: Open) -> None:
    page = await open_page("chat", size=(390, 844))
    await page.get_by_role("button", name="Conversations").click()
    drawer = page.get_by_role("dialog", name="Conversations")
    await expect(drawer).to_be_visible()
    await page.go_back()
    await expect(drawer).to_have_count(0)
    assert page.url.endswith("/chat")
