"""llamaproxy.server.signin: a key typed once, and the cookie that stands for it."""

from http.cookies import Morsel
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from llamaproxy.server.guard import fingerprint
from llamaproxy.server.sessions import COOKIE
from tests.server.conftest import Serve

Client = TestClient[Any, Any]
ADMIN, PLAIN = "lp-admin", "lp-plain"
KEYS = {"boss": {"sha256": fingerprint(ADMIN), "admin": True}, "alice": {"sha256": fingerprint(PLAIN)}}
OWN = {"Sec-Fetch-Site": "same-origin"}


async def sign_in(client: Client, key: str = ADMIN, path: str | None = None, **headers: str) -> ClientResponse:
    given = {"key": key} if path is None else {"key": key, "path": path}
    return await client.post("/api/session", json=given, headers=headers)


async def cookie(client: Client, **headers: str) -> "Morsel[str]":
    response = await sign_in(client, **headers)
    assert response.status == 200, await response.text()
    client.session.cookie_jar.clear()  # It is sent by hand, to be sent as a browser would, or not.
    return response.cookies[COOKIE]


async def test_cookie_opens_what_the_page_asks_and_holds_no_key(serve: Serve) -> None:
    client = await serve(keys=KEYS)
    session = await cookie(client)
    assert (session["httponly"], session["samesite"], session["path"], session["secure"]) == (True, "Strict", "/", "")
    assert ADMIN not in session.value
    signed = {"Cookie": f"{COOKIE}={session.value}", **OWN}
    for path in ("/api/models", "/v1/models"):
        assert (await client.get(path)).status == 401
        assert (await client.get(path, headers=signed)).status == 200
    assert (await client.get("/metrics", headers=signed)).status == 401


async def test_sign_out(serve: Serve) -> None:
    client = await serve(keys=KEYS)
    signed = {"Cookie": f"{COOKIE}={(await cookie(client)).value}", **OWN}
    response = await client.delete("/api/session", headers=signed)
    assert (response.status, response.cookies[COOKIE]["max-age"]) == (200, "0")
    answer = await client.get("/api/models", headers=signed)
    assert (answer.status, (await answer.json())["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(("key", "status"), [("lp-wrong", 401), (PLAIN, 403), ("", 400), ("k" * 5000, 400)])
async def test_keys_that_do_not_sign_in(key: str, status: int, serve: Serve) -> None:
    response = await sign_in(await serve(keys=KEYS), key)
    assert (response.status, COOKIE in response.cookies) == (status, False)


async def test_foreign_pages_cannot_sign_anybody_in(serve: Serve) -> None:
    client = await serve(keys=KEYS)
    assert (await sign_in(client, Origin="http://evil.com")).status == 403
    response = await client.post("/api/session", data=b'{"key":"lp-admin"}', headers={"Content-Type": "text/plain"})
    assert response.status == 415


async def test_behind_tls_and_a_prefix(serve: Serve) -> None:
    client = await serve(keys=KEYS, server={"base_path": "/llm"})
    session = await cookie(client, **{"X-Forwarded-Proto": "https"})
    assert (session["secure"], session["path"]) == (True, "/llm")


@pytest.mark.parametrize(
    ("page", "path"), [("/llm/", "/llm"), ("/", "/"), ("/llm2/", "/"), ("/a/../llm", "/"), ("; Domain=x", "/")]
)
async def test_cookie_is_for_the_address_that_was_opened(page: str, path: str, serve: Serve) -> None:
    client = await serve(keys=KEYS, server={"base_path": "/llm"})
    response = await sign_in(client, path=page)
    assert response.cookies[COOKIE]["path"] == path


async def test_without_a_prefix_the_cookie_is_for_all_of_it(serve: Serve) -> None:
    response = await sign_in(await serve(keys=KEYS), path="/below/a/proxy/")
    assert response.cookies[COOKIE]["path"] == "/"


async def test_revoked_key_ends_its_sessions(serve: Serve) -> None:
    client = await serve(keys=KEYS)
    made = await client.post("/api/keys", json={"name": "new", "admin": True}, headers={"x-api-key": ADMIN})
    response = await sign_in(client, (await made.json())["key"])
    client.session.cookie_jar.clear()
    signed = {"Cookie": f"{COOKIE}={response.cookies[COOKIE].value}", **OWN}
    assert (await client.get("/api/models", headers=signed)).status == 200
    await client.delete("/api/keys/new", headers={"x-api-key": ADMIN})
    assert (await client.get("/api/models", headers=signed)).status == 401
