"""What a real engine answers with 500 although its client is at fault: nobody else must suffer for it."""

from typing import Any

import pytest

from tests.gateway import Client

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
HELLO = {"role": "user", "content": "Hello"}


def tool(**fields: Any) -> dict[str, Any]:
    return {"messages": [HELLO], "tools": [{"type": "function", "function": {"name": "a", **fields}}]}


@pytest.mark.parametrize(
    "mistake",
    [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}]},
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        tool(description=None),
    ],
    ids=["image", "message", "tool"],
)
async def test_mistakes_of_one_client_open_no_breaker(client: Client, mistake: dict[str, Any]) -> None:
    url, body = client.gateway.url, {"model": "alpha", "max_tokens": 1}
    for stream in (False, True) * 4:
        asked = {**body, **mistake, "stream": stream}
        async with client.session.post(f"{url}/v1/chat/completions", json=asked) as response:
            assert response.status == 500, "a newer engine may know better"
    async with client.session.get(f"{url}/api/models/alpha") as response:
        assert (await response.json())["breaker"]["state"] == "closed"
    async with client.session.post(f"{url}/v1/chat/completions", json={**body, "messages": [HELLO]}) as response:
        assert response.status == 200
