"""llamaproxy.server.api_models: what a model may be called, when its routes have words of their own."""

import pytest

from tests.server.conftest import Serve


@pytest.mark.parametrize("action", ["start", "stop", "restart", "pin", "unpin", "reset-breaker"])
async def test_actions_take_names_with_slashes_spelled_in_both_ways(action: str, serve: Serve) -> None:
    client = await serve()
    for name in ("org/n", "org%2Fn"):
        response = await client.post(f"/api/models/{name}/{action}", json={})
        assert (response.status, (await response.json())["name"]) == (200, "org/n")


async def test_what_needs_a_switch_says_which(serve: Serve) -> None:
    client = await serve()
    for method, path in (("GET", "/api/deploy/plan?repo=a/b"), ("POST", "/api/deploy")):
        response = await client.request(method, path, json={"repo": "a/b"} if method == "POST" else None)
        assert "`downloads = true` in [catalog]" in (await response.json())["error"]["message"]


async def test_downloads_are_listed_without_it(serve: Serve) -> None:
    client = await serve()
    assert await (await client.get("/api/deploy")).json() == {"jobs": []}
