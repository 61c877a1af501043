"""The dashboard's files.

Owns where the page lies: inside the package when installed, in the repository's `dashboard/` when run from there.
"""

import asyncio
from pathlib import Path

from aiohttp import web

_HERE = Path(__file__).parent
_PLACES = (_HERE / "page" / "index.html", _HERE.parent.parent / "dashboard" / "index.html")
_NOT_BUILT = "<!doctype html><title>llamaproxy</title><p>The page is not built in; /api/models tells what runs."
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


async def index(request: web.Request) -> web.Response:
    """The page, or a plain word that it was not built in."""
    return web.Response(text=await asyncio.to_thread(_read), content_type="text/html", headers=_HEADERS)


def _read() -> str:
    found = next((path for path in _PLACES if path.is_file()), None)
    return found.read_text("utf-8") if found else _NOT_BUILT
