"""The dashboard's files, as `dashboard/hatch_build.py` has built them.

Owns which addresses are the page's, and what browsers may do with it. The page is one document; its script decides by
the address what it shows. Nothing here needs a key: what the page shows comes from /api, which does.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from llamaproxy.errors import MethodNotAllowed, NotFound

PATHS = frozenset(
    "/ /dashboard /models /requests /monitoring /logs /chat /connect /configuration /settings /deploy".split()
)
"""Where the document is. `/models` is a list for programs, too."""
ASSETS = "/assets/"

_FOLDER = Path(__file__).parent / "page"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_NOT_BUILT = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>llamaproxy</title><h1>llamaproxy</h1>'
    '<p>The gateway runs. Its page was not built; <a href="api/models">/api/models</a> tells what runs.'
)
_POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_DOCUMENT = {**_HEADERS, "Cache-Control": "no-cache", "Vary": "Accept"}
_ASSET = {**_HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
"""Their names change with what they hold."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def handler(request: web.Request, path: str) -> Handler | None:
    """Who answers, if the normalised path is the page's."""
    if path in PATHS:
        return index if _is_for_people(request, path) else None
    return asset if path.startswith(ASSETS) else None


async def index(request: web.Request) -> web.StreamResponse:
    """The document, or a plain word that it was not built."""
    _only_read(request)
    text = await asyncio.to_thread(_read, _FOLDER / "index.html")
    return web.Response(text=text, content_type="text/html", headers=_DOCUMENT)


async def asset(request: web.Request) -> web.StreamResponse:
    """A file that the document names, compressed where its sibling is there and the browser takes it."""
    _only_read(request)
    name = request.path.rpartition("/")[2]
    file = _FOLDER / "assets" / name
    if not _NAME.fullmatch(name) or not await asyncio.to_thread(file.is_file):
        raise NotFound(f"there is no {request.path[:200]!r} here")
    return web.FileResponse(file, headers=_ASSET)


def _is_for_people(request: web.Request, path: str) -> bool:
    """Programs ask `/models` for JSON, or for anything; browsers that open it name HTML."""
    return path != "/models" or (request.method == "GET" and "text/html" in request.headers.get("Accept", ""))


def _only_read(request: web.Request) -> None:
    if request.method not in ("GET", "HEAD"):
        raise MethodNotAllowed.taking(request.path[:200], ["GET", "HEAD"])


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except FileNotFoundError:
        return _NOT_BUILT
