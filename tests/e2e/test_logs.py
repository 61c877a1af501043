"""The log in a browser: what is wanted of it, and a flood."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Locator, Page, Route, WebSocketRoute, expect

from tests.e2e.browser import MODEL, OTHER
from tests.e2e.conftest import Open
from tests.gateway import Client

pytestmark = pytest.mark.asyncio(loop_scope="session")


def lines(page: Page) -> Locator:
    return page.get_by_role("log").get_by_role("button")


async def test_lines_are_found_by_text_and_by_expression(open_page: Open, client: Client) -> None:
    page = await open_page("logs")
    await expect(lines(page).first).to_be_visible()
    search = page.get_by_role("searchbox", name="Search the log")
    await search.fill("MODELS: smoll")
    await expect(lines(page)).to_have_count(1)

    await page.get_by_label("Regex").check()
    search = page.get_by_role("searchbox", name="Regular expression")
    await search.fill("^llamaproxy +models: (a|s).*other")
    await expect(lines(page)).to_have_count(1)
    await search.fill("^models")
    await expect(page.get_by_text("No line fits")).to_be_visible()
    await search.fill("^models(")
    await expect(page.get_by_role("alert")).to_contain_text("not a regular expression yet")
    await expect(lines(page).first).to_be_visible()


async def test_what_was_chosen_stands_in_the_address(open_page: Open) -> None:
    page = await open_page("logs?level=error&q=no-such-line")
    await expect(page.get_by_text("No line fits")).to_be_visible()
    await page.get_by_role("button", name="Show all").click()
    await expect(lines(page).first).to_be_visible()
    assert page.url.endswith("/logs")


async def test_lines_are_exported_as_json(open_page: Open, tmp_path: Path) -> None:
    page = await open_page("logs?q=models:+smoll")
    await expect(lines(page)).to_have_count(1)
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Export").click()
    file = tmp_path / "log.json"
    await (await download.value).save_as(file)
    exported: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))
    assert [line["message"] for line in exported] == [f"models: {MODEL}, {OTHER}"]


class Flood:
    """A gateway's WebSocket that says what the test wants said."""

    def __init__(self) -> None:
        self.socket: WebSocketRoute | None = None
        self.number = 0
        self.seq = 0
        self.first = self.entries(50)

    def accept(self, socket: WebSocketRoute) -> None:
        self.socket = socket
        socket.on_message(lambda text: self.answer(json.loads(text)))
        hello = {"protocol": 1, "version": "1.0.0", "started": 1, "topics": ["logs", "models"], "heartbeat": 20}
        self.say({"type": "broadcast", "event": "hello", "data": hello, "timestamp": 1})

    def answer(self, asked: dict[str, Any]) -> None:
        topics = asked["data"].get("topics", [])
        data = {
            "seq": dict.fromkeys(topics, self.seq),
            "snapshot": {"logs": {"entries": self.first}, "models": {"models": []}},
        }
        reply = {key: asked[key] for key in ("event", "requestId")}
        self.say({"type": "response", "success": True, "error": None, "timestamp": 1, **reply, "data": data})

    def entries(self, count: int) -> list[dict[str, Any]]:
        first, self.number = self.number, self.number + count
        common = {"level": "info", "source": "engine", "model": "m", "request_id": None, "context": None}
        return [
            {"id": n, "timestamp": n, "message": f"line {n} \x1b[31m\u202e", **common}
            for n in range(first, first + count)
        ]

    def more(self, count: int, dropped: int = 0) -> None:
        self.seq += 1
        data = {"entries": self.entries(count), "dropped": dropped}
        frame = {"type": "broadcast", "event": "logs:entry", "topic": "logs", "seq": self.seq, "timestamp": 1}
        self.say({**frame, "data": data})

    def say(self, frame: dict[str, Any]) -> None:
        assert self.socket
        self.socket.send(json.dumps(frame))


@pytest.fixture
def flood() -> Flood:
    return Flood()


async def flooded(open_page: Open, flood: Flood) -> Page:
    """The log of a gateway that says what it is told to."""
    page = await open_page()
    await page.context.route_web_socket("**/llamaproxws", flood.accept)
    await page.route("**/api/logs?*", lambda route: route.fulfill(json={"logs": [], "next": None}))
    await page.goto(page.url + "logs")
    await expect(lines(page).last).to_contain_text("line 49")
    return page


async def test_a_flood_fills_no_document_and_says_what_it_left_out(open_page: Open, flood: Flood) -> None:
    page = await flooded(open_page, flood)
    for _ in range(100):
        flood.more(100, dropped=1)
    await expect(lines(page).last).to_contain_text("line 10049")
    await expect(page.get_by_text("5,000 lines")).to_be_visible()
    await expect(page.get_by_text("lines left out")).to_be_visible()
    assert await lines(page).count() < 100


async def test_what_is_looked_at_stays_where_it_is(open_page: Open, flood: Flood) -> None:
    page = await flooded(open_page, flood)
    flood.more(200)
    await expect(lines(page).last).to_contain_text("line 249")
    log = page.get_by_role("log")
    await log.evaluate("one => one.scrollTop = 1200")
    await expect(page.get_by_role("button", name="To the end")).to_be_visible()
    shown = page.get_by_text("line 60 ")
    before = await shown.bounding_box()
    flood.more(100)
    await expect(page.get_by_role("button", name="100 new lines")).to_be_visible()
    assert await shown.bounding_box() == before

    await page.get_by_role("button", name="100 new lines").click()
    await expect(lines(page).last).to_contain_text("line 349")
    flood.more(1)
    await expect(lines(page).last).to_contain_text("line 350")


async def test_control_characters_are_seen_and_not_obeyed(open_page: Open, flood: Flood) -> None:
    page = await flooded(open_page, flood)
    await expect(lines(page).last).to_contain_text(r"\u{1b}[31m\u{202e}")


async def test_search_asks_the_gateway_for_what_is_not_here(open_page: Open, flood: Flood) -> None:
    page = await flooded(open_page, flood)
    old = {"level": "info", "source": "engine", "model": "m", "request_id": None, "context": None}
    asked: list[str] = []

    async def answer(route: Route) -> None:
        asked.append(route.request.url)
        is_first = "before=" not in route.request.url
        found = [] if is_first else [{"id": -1, "timestamp": -1, "message": "a needle", **old}]
        await route.fulfill(json={"logs": found, "next": 1_790_000_000_000_000 if is_first else None})

    await page.route("**/api/logs?*", answer)
    await page.get_by_role("searchbox", name="Search the log").fill("needle")
    await expect(page.get_by_text("No line fits")).to_be_visible()
    await expect(page.get_by_text("Back to 21 Sep", exact=False)).to_be_visible()
    await page.get_by_role("button", name="Search older").click()
    await expect(lines(page)).to_have_count(1)
    await expect(page.get_by_text("In all lines that are kept")).to_be_visible()
    assert [("q=needle" in url, "before=1790000000000000" in url) for url in asked] == [(True, False), (True, True)]


async def test_link_to_a_line_opens_it(open_page: Open, client: Client) -> None:
    line = (await client.get("/api/logs?q=models:"))["logs"][-1]
    page = await open_page(f"logs?line={line['id']}")
    drawer = page.get_by_role("dialog", name="Line of the log")
    await expect(drawer).to_contain_text(line["message"])
    await page.keyboard.press("Escape")
    await expect(drawer).to_have_count(0)
    await lines(page).first.click()
    await page.go_back()
    await expect(drawer).to_have_count(0)
    assert page.url.endswith("/logs")


async def test_clearing_asks_first(open_page: Open, client: Client) -> None:
    page = await open_page("logs")
    await expect(lines(page).first).to_be_visible()
    await page.get_by_role("button", name="Clear").click()
    question = page.get_by_role("dialog", name="Clear the log?")
    await question.get_by_role("button", name="Cancel").click()
    assert (await client.get("/api/logs"))["logs"]

    await page.get_by_role("button", name="Clear").click()
    await question.get_by_role("button", name="Clear").click()
    await expect(page.get_by_text("No lines", exact=True)).to_be_visible()
    assert not (await client.get("/api/logs"))["logs"]
