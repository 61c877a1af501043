"""Limits of keys on the whole gateway: what a thousand hands at once cannot get around."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from llamaproxy.server.guard import fingerprint
from tests.faults.conftest import KEY, Start
from tests.gateway import Client, chat_body, fake_model

CHAT = "/v1/chat/completions"


def key(secret: str, **rules: Any) -> dict[str, Any]:
    return {"sha256": fingerprint(secret), **rules}


def config(folder: Path, keys: dict[str, Any], **model: Any) -> dict[str, Any]:
    """One model, these keys, and the one that the tests themselves look with."""
    return {"models": {"m": fake_model(folder, "m", **model)}, "keys": {**keys, "tests": key(KEY, admin=True)}}


async def ask(client: Client, secret: str, **body: Any) -> tuple[int, dict[str, str]]:
    """Status and header fields; the answer is read to its end."""
    shown = {"Authorization": f"Bearer {secret}"}
    url = client.gateway.url + CHAT
    async with client.session.post(url, json={**chat_body("m"), **body}, headers=shown) as response:
        await response.read()
        return response.status, {name.lower(): value for name, value in response.headers.items()}


async def tokens_of(client: Client, name: str) -> int:
    rows = [row for row in await client.rows() if row["key"] == name]
    return sum((row["prompt_tokens"] or 0) + (row["completion_tokens"] or 0) for row in rows)


async def test_a_hundred_streams_at_once_take_no_more_than_the_tokens_of_a_minute(start: Start, tmp_path: Path) -> None:
    model = {"parallel": 128, "concurrency": 128, "env": {"FAKE_TOKEN_SECONDS": "0.005"}}
    async with start(config(tmp_path, {"team": key("lp-team", tpm=1000)}, **model)) as client:
        asked = (ask(client, "lp-team", stream=True, max_tokens=40) for _ in range(100))
        answers = await asyncio.gather(*asked)
        await client.settled()
        admitted = [fields for status, fields in answers if status == 200]
        refused = [fields for status, fields in answers if status == 429]
        assert len(admitted) + len(refused) == 100
        assert 8 <= len(admitted) < 30, "as many as fit, and no more"
        assert 8 * 40 <= await tokens_of(client, "team") <= 1000
        assert all(1 <= int(fields["retry-after"]) <= 61 for fields in refused)
        assert all(int(fields["x-ratelimit-remaining-tokens"]) >= 0 for _, fields in answers)


async def test_who_says_nothing_of_length_holds_what_there_is_until_the_end(start: Start, tmp_path: Path) -> None:
    slow = {"FAKE_TOKEN_SECONDS": "0.2"}
    async with start(config(tmp_path, {"team": key("lp-team", tpm=150)}, env=slow)) as client:
        shown = {"Authorization": "Bearer lp-team"}
        body = {**chat_body("m"), "stream": True}
        async with client.session.post(client.gateway.url + CHAT, json=body, headers=shown) as stream:
            assert stream.headers["x-ratelimit-remaining-tokens"] == "0"
            assert (await ask(client, "lp-team", max_tokens=1))[0] == 429
            await stream.read()
        await client.settled()
        status, fields = await ask(client, "lp-team", max_tokens=1)
        assert (status, fields["x-ratelimit-limit-tokens"]) == (200, "150")


async def test_requests_at_once(start: Start, tmp_path: Path) -> None:
    """Waiting ones too; places come back whatever became of who had them."""
    slow = {"FAKE_TOKEN_SECONDS": "0.05"}
    async with start(config(tmp_path, {"team": key("lp-team", concurrency=3)}, env=slow)) as client:
        shown = {"Authorization": "Bearer lp-team"}
        body = {**chat_body("m"), "stream": True, "max_tokens": 10_000}
        for _ in range(3):
            streams = [await client.session.post(client.gateway.url + CHAT, json=body, headers=shown) for _ in range(3)]
            assert (await ask(client, "lp-team", max_tokens=1))[0] == 429
            for stream in streams:
                stream.close()
            await client.settled()
        assert (await ask(client, "lp-team", max_tokens=1))[0] == 200


async def test_the_openai_package_sees_where_it_stands(start: Start, tmp_path: Path) -> None:
    async with start(config(tmp_path, {"team": key("lp-team", rpm=2, tpm=100_000)})) as client:
        base = client.gateway.url + "/v1"
        async with openai.AsyncOpenAI(base_url=base, api_key="lp-team", max_retries=0) as sdk:
            create = sdk.chat.completions.with_raw_response.create
            raw = await create(model="m", messages=[{"role": "user", "content": "hi"}], max_tokens=10)
            assert raw.headers["x-ratelimit-limit-requests"] == "2"
            assert raw.headers["x-ratelimit-remaining-requests"] == "1"
            assert raw.headers["x-ratelimit-reset-requests"] in ("59s", "1m0s", "1m1s")
            assert int(raw.headers["x-ratelimit-remaining-tokens"]) < 100_000
            with pytest.raises(openai.RateLimitError) as never:
                await create(model="m", messages=[{"role": "user", "content": "hi"}], max_tokens=200_000)
            assert "never" in never.value.message
            assert never.value.response.headers["x-should-retry"] == "false"
            async for _ in await sdk.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hi"}], max_tokens=10, stream=True
            ):
                pass
            with pytest.raises(openai.RateLimitError) as limited:
                await create(model="m", messages=[{"role": "user", "content": "hi"}], max_tokens=10)
            assert limited.value.code == "rate_limit_exceeded"
            assert 50 <= int(limited.value.response.headers["retry-after"]) <= 61


async def test_an_expired_key_and_both_places_for_one(start: Start, tmp_path: Path) -> None:
    rules = {"old": key("lp-old", expires="2020-01-01T00:00:00Z"), "new": key("lp-new", expires="2999-01-01T00:00:00Z")}
    async with start(config(tmp_path, rules)) as client:
        url = client.gateway.url + "/v1/models"
        async with aiohttp.ClientSession() as session:
            for shown in ({"Authorization": "Bearer {}"}, {"x-api-key": "{}"}):
                for secret, status in (("lp-new", 200), ("lp-old", 401), ("lp-none", 401), ("lp-\u00fc", 401)):
                    headers = {name: value.format(secret) for name, value in shown.items()}
                    async with session.get(url, headers=headers) as response:
                        assert response.status == status, (headers, await response.text())


async def test_a_thousand_keys_each_with_its_own_limit(start: Start, tmp_path: Path) -> None:
    rules = {f"k{number}": key(f"lp-{number}", rpm=1) for number in range(1000)}
    async with start(config(tmp_path, rules)) as client:
        for number in (0, 499, 999):
            statuses = [(await ask(client, f"lp-{number}", max_tokens=1))[0] for _ in range(2)]
            assert statuses == [200, 429]
