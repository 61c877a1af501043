"""llamaproxy.server.refusals: what is refused at the door leaves a trace, and a flood of it no more than that."""

import hashlib
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from llamaproxy.errors import InvalidApiKey
from llamaproxy.server.refusals import ROWS_AT_ONCE, Refusals
from llamaproxy.telemetry.ledger import Ledger
from llamaproxy.telemetry.traffic import Traffic
from tests.gateway import chat_body
from tests.server.conftest import Serve
from tests.server.mocked import mocked_request

SECRET = "lp-abcdefghijklmnopqrstuvwxyz234567"
KEYS = {"alice": {"sha256": hashlib.sha256(SECRET.encode()).hexdigest()}}
GOOD = {"Authorization": f"Bearer {SECRET}"}
REFUSED = InvalidApiKey("an API key is needed")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Door:
    """Refusals, and what they leave."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ledger = Ledger()
        self.traffic = Traffic(self.clock)
        self.refusals = Refusals(self.ledger, self.traffic, self.clock)

    def refuse(self, count: int = 1, path: str = "/v1/chat/completions") -> None:
        for _ in range(count):
            self.refusals.tell(mocked_request("POST", path), path, REFUSED)

    @property
    def counted(self) -> list[str]:
        return [line for family in self.traffic.families() for line in family.splitlines() if "refused" in line][2:]


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.mark.parametrize(
    ("path", "endpoint", "dialect"),
    [
        ("/v1/chat/completions", "chat/completions", "openai"),
        ("/v1/messages", "messages", "anthropic"),
        ("/upstream/m/props", "upstream", "openai"),
        ("/v1/no/such/thing", "unknown", "openai"),
    ],
)
def test_request_for_a_model_has_a_row(door: Door, path: str, endpoint: str, dialect: str) -> None:
    door.refuse(path=path)
    (row,) = door.ledger.recent
    assert (row.endpoint, row.dialect, row.state, row.status, row.model) == (endpoint, dialect, "rejected", 401, None)
    assert row.error == "invalid_api_key"


@pytest.mark.parametrize("path", ["/", "/api/models", "/metrics", "/v1/models", "/v1/models/m", "/favicon.ico"])
def test_request_for_the_gateway_itself_has_none(door: Door, path: str) -> None:
    door.refuse(path=path)
    assert (door.ledger.received, door.counted) == (0, [])


def test_flood_is_counted_and_has_few_rows(door: Door) -> None:
    door.refuse(10 * ROWS_AT_ONCE)
    assert door.counted == [f'llamaproxy_refused_requests_total{{status="401"}} {10 * ROWS_AT_ONCE}']
    assert door.ledger.received == sum(door.ledger.ended.values()) == ROWS_AT_ONCE
    door.clock.now += 3
    door.refuse(10)
    assert door.ledger.received == ROWS_AT_ONCE + 3


def test_long_peace_makes_room_for_so_many_only(door: Door) -> None:
    door.refuse()
    door.clock.now += 1e6
    door.refuse(2 * ROWS_AT_ONCE)
    assert door.ledger.received == 1 + ROWS_AT_ONCE


async def status(client: TestClient[Any, Any], path: str, **headers: str) -> int:
    async with client.post(path, json=chat_body("m"), headers=headers) as response:
        return response.status


async def test_every_refusal_of_the_gateway_is_told_once(serve: Serve) -> None:
    client = await serve(keys=KEYS)
    assert await status(client, "/v1/chat/completions") == 401
    assert await status(client, "/v1/chat/completions", Origin="https://evil.example", **GOOD) == 403
    assert await status(client, "/v1/nothing", **GOOD) == 404
    async with client.post("/v1/chat/completions", json=chat_body("nobody"), headers=GOOD) as response:
        assert response.status == 404
    async with client.get("/api/requests?sort=started_at", headers=GOOD) as response:
        page = await response.json()
    rows = [(row["endpoint"], row["status"], row["key"]) for row in page["requests"]]
    assert rows == [
        ("chat/completions", 401, None),
        ("chat/completions", 403, None),
        ("unknown", 404, None),
        ("chat/completions", 404, "alice"),
    ]
    assert (page["totals"]["received"], page["totals"]["rejected"]) == (4, 4)
