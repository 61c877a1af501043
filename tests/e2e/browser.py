"""The browser and the gateway that the page is looked at with. Owns what they need, and saying what is missing."""

import importlib.util
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from llamaproxy.backends.engine import bundled_model
from tests.gateway import Table

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "dashboard"
AXE = DASHBOARD / "node_modules" / "axe-core" / "axe.min.js"
PAGES = re.findall(r'\{ name: "([a-z]+)"', (DASHBOARD / "src" / "routes.ts").read_text("utf-8"))
MODEL, OTHER = "smollm2", "other"

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def missing() -> str | None:
    """What is not here and cannot be done without."""
    if not _program():
        return f"no browser on PATH: one of {', '.join(_NAMES)}"
    if not (ROOT / "llamaproxy" / "server" / "page" / "index.html").is_file():
        return "the page was not built"
    if importlib.util.find_spec("xllamacpp") is None or not bundled_model():
        return "the embedded engine or the bundled model is not installed"
    return None


def settings(models: tuple[str, ...] = (MODEL, OTHER)) -> dict[str, Table]:
    """Models of one small file, of which one fits."""
    small = {"path": str(bundled_model()), "ctx_size": 2048, "parallel": 1}
    return {
        "engine": {"binary": "embedded", "args": ["--threads", "2"]},
        "limits": {"models_max": 1},
        "models": dict.fromkeys(models, small),
    }


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=_program(), args=_FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


def _program() -> str | None:
    return next(filter(None, map(shutil.which, _NAMES)), None)
