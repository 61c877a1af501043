"""A picture of every page, of a gateway at work: `python -m bench.screenshots [FOLDER]`.

For the documentation, and for people who change the page. Pictures are not compared with anything: what they show,
numbers and times, is another each time.
"""

import argparse
import asyncio
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
from playwright.async_api import Browser, expect

from llamaproxy.backends.engine import bundled_model
from llamaproxy.tasks import spawn
from tests.e2e.browser import PAGES, launched, missing, settings
from tests.gateway import Client, GatewayProcess

FOLDER = Path(__file__).parents[1] / "docs" / "screenshots"
LARGEST = 120 * 1024
"""Bytes of a picture that people get with every clone."""
_WIDTH, _HEIGHT = 1240, 820
_SETTLED = 3.0
"""Seconds in which everything live has been told at least once."""
_LOW = {"logs": 500, "requests": 740}
"""Heights of pages that are full of words: those cost most."""
_BEFORE = 120.0
"""Seconds of work before the first picture: charts and strips of less show little."""
_MODELS = ("smollm2-135m", "smollm2-assistant", "smollm2-tools")
_QUESTIONS = ("Why is the sky blue?", "Name three rivers.", "What is a reverse proxy?")
_SHOWN = {"logs": "logs?source=gateway"}
"""Pages that are not shown as they open: engines say much."""
_LONG = {"max_tokens": 1900, "ignore_eos": True}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.screenshots", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    folder: Path = parser.parse_args(argv).folder
    if reason := missing():
        sys.exit(reason)
    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(draw(folder))
    heavy = [file.name for file in sorted(folder.glob("*.png")) if file.stat().st_size > LARGEST]
    if heavy:
        sys.exit(f"more than {LARGEST // 1024} KiB: {', '.join(heavy)}")


async def draw(folder: Path) -> None:
    """One picture a page, and of the first one another in the dark."""
    with tempfile.TemporaryDirectory(prefix="llamaproxy-") as place:
        gateway = GatewayProcess(Path(place), _with_files(Path(place)))
        async with gateway.running(), aiohttp.ClientSession() as session, launched() as browser:
            client = Client(gateway, session)
            await _talk(client)
            await client.state_is(_MODELS[0], "ready")
            endless = spawn(_listen(client), name="endless-answer")
            for name in PAGES:
                await _picture(browser, gateway.url, name, folder / f"{name}.png")
            await _picture(browser, gateway.url, PAGES[0], folder / f"{PAGES[0]}-dark.png", dark=True)
            endless.cancel()


def _with_files(place: Path) -> dict[str, dict[str, object]]:
    """Every model has a file of its own: its path is in the pictures."""
    bundled = bundled_model()
    assert bundled
    config = {section: dict(table) for section, table in settings(_MODELS).items()}
    for name in _MODELS:
        file = place / f"{name}.gguf"
        shutil.copyfile(bundled, file)
        config["models"][name] = {**config["models"][name], "path": str(file)}
    return config


async def _talk(client: Client) -> None:
    """A little of everything: two models take turns, answers of several lengths, rests, and a client who is wrong."""
    end = time.monotonic() + _BEFORE
    for number in itertools.count():
        messages = [{"role": "user", "content": _QUESTIONS[number % len(_QUESTIONS)]}]
        for length in range(number % 3 + 1):
            await client.chat(_MODELS[number % 2], messages=messages, max_tokens=40 * (length + 1))
        await asyncio.sleep(2)
        if time.monotonic() > end:
            break
    await client.chat("unknown")
    await client.chat(_MODELS[0], max_tokens=5)


async def _listen(client: Client) -> None:
    async with client.stream(_MODELS[0], **_LONG) as response:
        async for _ in response.content.iter_any():
            pass


async def _picture(browser: Browser, url: str, name: str, file: Path, dark: bool = False) -> None:
    context = await browser.new_context(
        viewport={"width": _WIDTH, "height": _LOW.get(name, _HEIGHT)},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    page = await context.new_page()
    await page.goto(f"{url}/{_SHOWN.get(name, name)}", wait_until="networkidle")
    await expect(page.get_by_role("status").get_by_text("Loading", exact=True)).to_have_count(0, timeout=20_000)
    await expect(page.get_by_text("Gathering data")).to_have_count(0, timeout=20_000)
    await asyncio.sleep(_SETTLED)
    await page.screenshot(path=file)
    await context.close()


if __name__ == "__main__":
    main()
