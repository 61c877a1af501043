"""Signing in with a browser: a key is typed once, and a cookie stands for it.

Owns the cookie. No script can read it and no other site can have it sent; what it opens is the guard's word.
"""

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from llamaproxy.server.answers import json_response
from llamaproxy.server.current import Current
from llamaproxy.server.guard import fingerprint, is_forwarded_from_tls
from llamaproxy.server.sessions import COOKIE, LIFETIME, token_of


class Credentials(BaseModel):
    """`key` is what is typed in, `path` where its browser sees the page: the cookie is for that address."""

    model_config = ConfigDict(extra="forbid")
    key: str = Field(min_length=1, max_length=4096)
    path: str | None = Field(None, max_length=2000)


class ShownSession(BaseModel):
    """`name` is the key's; `expires_in` in seconds."""

    name: str
    expires_in: int


class SignedOut(BaseModel):
    success: bool


class SignIn:
    """Handlers for `/api/session`."""

    def __init__(self, current: Current) -> None:
        self._current = current

    async def begin(self, request: web.Request, given: Credentials) -> web.Response:
        """Raises InvalidApiKey, or Forbidden for a key that may not administer."""
        hashed = fingerprint(given.key)
        key = self._current.guard.admin(hashed)
        response = json_response({"name": key.name, "expires_in": int(LIFETIME)})
        response.set_cookie(
            COOKIE,
            self._current.sessions.begin(hashed),
            path=self._path(given.path),
            max_age=int(LIFETIME),
            httponly=True,
            samesite="Strict",
            secure=is_forwarded_from_tls(request.headers),
        )
        return response

    async def end(self, request: web.Request) -> web.Response:
        """Whoever was signed in is not any more."""
        if token := token_of(request.headers.get("Cookie", "")):
            self._current.sessions.end(token)
        response = json_response({"success": True})
        response.del_cookie(COOKIE, path=self._path(None), httponly=True, samesite="Strict")
        return response

    def _path(self, page: str | None) -> str:
        """A page beside the prefix is one that came without the proxy in front."""
        base = self._current.config.server.base_path or "/"
        return base if page is None or page.startswith(base.rstrip("/") + "/") else "/"
