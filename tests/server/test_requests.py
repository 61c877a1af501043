"""llamaproxy.server.requests: the list of requests, one of them, and sums, asked over HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from llamaproxy.backends.life import Life
from llamaproxy.backends.pool import Pool
from llamaproxy.config import Config, TelemetryConfig
from llamaproxy.core.routing import Dialect
from llamaproxy.errors import GatewayError
from llamaproxy.server.answers import error_response
from llamaproxy.server.flights import Flights
from llamaproxy.server.progress import Progress
from llamaproxy.server.requests import Requests
from llamaproxy.telemetry.history import History
from llamaproxy.telemetry.ledger import RequestRow, RequestState
from llamaproxy.telemetry.traffic import Traffic
from tests.gateway import chat_body
from tests.server.conftest import Serve

Client = TestClient[web.Request, web.Application]
Answer = tuple[int, Any]


@pytest.fixture(params=["database", "memory"])
async def history(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[History]:
    """Whoever asks need not know where rows are."""
    database = "off" if request.param == "memory" else str(tmp_path / "llamaproxy.db")
    made = History(TelemetryConfig(database=database))
    made.start()
    yield made
    await made.close()


def made(history: History, traffic: Traffic) -> Requests:
    """Without any backend."""
    flights, pool = Flights(), Pool({}, Config(), no_launch)
    return Requests(history, flights, traffic, Progress(history.ledger, flights, pool))


def no_launch(model: str, number: int) -> Life:
    raise AssertionError(model)


@pytest.fixture
async def client(history: History, aiohttp_client: AiohttpClient) -> Client:
    requests = made(history, Traffic())

    async def one(request: web.Request) -> web.Response:
        return await requests.one(request, request.match_info["id"])

    app = web.Application(middlewares=[_errors])
    app.router.add_get("/api/requests", requests.page)
    app.router.add_get("/api/requests/{id}", one)
    app.router.add_get("/api/usage", requests.usage)
    return await aiohttp_client(app)


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except GatewayError as error:
        return error_response(error, Dialect.OPENAI)


async def get(client: Client, path: str) -> Answer:
    async with client.get(path) as response:
        return response.status, await response.json()


def add(history: History, name: str, state: RequestState = RequestState.OK, **fields: Any) -> RequestRow:
    """A request; one in flight is left so."""
    row = history.ledger.open(RequestRow(name, "chat/completions", "openai", "127.0.0.1", **fields))
    if state is not RequestState.IN_FLIGHT:
        history.ledger.close(row, state, 200)
    return row


async def test_totals_and_rows(client: Client, history: History) -> None:
    for name, state in zip("abc", (RequestState.OK, RequestState.REJECTED, RequestState.IN_FLIGHT), strict=True):
        add(history, name, state)
    status, answer = await get(client, "/api/requests")
    assert (status, answer["totals"]) == (200, {"received": 3, "in_flight": 1, "ok": 1, "rejected": 1})
    assert [row["id"] for row in answer["requests"]] == ["c", "b", "a"]
    assert answer["next"] is None


@pytest.mark.parametrize(("query", "count"), [("", 100), ("?limit=1", 1), ("?limit=150", 150), ("?limit=1000", 200)])
async def test_limit(query: str, count: int, client: Client, history: History) -> None:
    for number in range(200):
        add(history, str(number))
    assert len((await get(client, f"/api/requests{query}"))[1]["requests"]) == count


async def test_pages_follow_one_another(client: Client, history: History) -> None:
    for number in range(25):
        add(
            history, str(number), RequestState.OK if number < 20 else RequestState.IN_FLIGHT, started_at=1000.0 + number
        )
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        _, answer = await get(client, f"/api/requests?limit=4{cursor and f'&before={cursor}'}")
        seen += [int(row["id"]) for row in answer["requests"]]
        cursor = answer["next"]
    assert seen == [24, 23, 22, 21, 20, *reversed(range(20))]


async def test_filters_and_order(client: Client, history: History) -> None:
    add(history, "a", model="m", key="alice", bytes_in=3)
    add(history, "b", RequestState.REJECTED, model="m", bytes_in=1)
    add(history, "c", model="n", key="alice", bytes_in=2)
    for query, found in (
        ("model=m", "ba"),
        ("key=alice", "ca"),
        ("state=ok&key=alice&model=n", "c"),
        ("state=rejected", "b"),
        ("state=in_flight", ""),
        ("sort=bytes_in", "bca"),
        ("sort=-bytes_in", "acb"),
        ("model=nobody's", ""),
    ):
        answer = (await get(client, f"/api/requests?{query}"))[1]
        assert "".join(row["id"] for row in answer["requests"]) == found, query


@pytest.mark.parametrize(
    ("query", "param"),
    [
        *((f"limit={limit}", "limit") for limit in ("0", "-1", "1001", "1.5", "", "ten", "%C2%B2", "9" * 5000)),
        *((f"state={state}", "state") for state in ("", "gone", "ok'--")),
        *((f"sort={column}", "sort") for column in ("", "id", "--bytes_in", "bytes_in;drop table requests", "run")),
        *((f"before={cursor}", "before") for cursor in ("", "1", "1_2_3_4", "1_nan_2_3_4", "1_1e999_2_3_4")),
        ("before=1_1_2_3_9999999999999999999", "before"),
        ("model=", "model"),
        ("model=a%00b", "model"),
        ("key=" + "k" * 257, "key"),
    ],
)
async def test_what_cannot_be_asked(query: str, param: str, client: Client) -> None:
    status, answer = await get(client, f"/api/requests?{query}")
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "invalid_request", param)


async def test_one_request(client: Client, history: History) -> None:
    add(history, "twice", started_at=1000.0)
    add(history, "twice", RequestState.IN_FLIGHT, started_at=2000.0)
    status, row = await get(client, "/api/requests/twice")
    assert (status, row["started_at"], row["state"]) == (200, 2000, "in_flight")
    status, answer = await get(client, "/api/requests/nobody")
    assert (status, answer["error"]["code"]) == (404, "not_found")


async def test_usage(client: Client, history: History) -> None:
    add(history, "a", model="m", completion_tokens=3, started_at=86400.0 * 10)
    add(history, "b", RequestState.REJECTED, model="m", started_at=86400.0 * 11)
    add(history, "c", started_at=86400.0 * 11)
    while history.health()["spooled_rows"]:
        await history.fetch(("SELECT 1", ()))
    answer = (await get(client, "/api/usage?by=day,model&since=864000"))[1]
    found = [(row["day"], row["model"], row["requests"], row["ok"], row["rejected"]) for row in answer["usage"]]
    assert found == [("1970-01-11", "m", 1, 1, 0), ("1970-01-12", None, 1, 1, 0), ("1970-01-12", "m", 1, 0, 1)]
    assert [row["completion_tokens"] for row in answer["usage"]] == [3, 0, 0]


async def test_usage_tells_the_last_minute(aiohttp_client: AiohttpClient) -> None:
    traffic = Traffic()
    traffic.allow(["m"], ["alice"])
    history = History(TelemetryConfig(database="off"), traffic.ended)
    app = web.Application()
    app.router.add_get("/api/usage", made(history, traffic).usage)
    client = await aiohttp_client(app)
    add(history, "a", model="m", key="alice", prompt_tokens=3, completion_tokens=4)
    add(history, "b", RequestState.CLIENT_ABORT, model="m", completion_tokens=2)
    add(history, "c", RequestState.IN_FLIGHT, model="m")
    assert (await get(client, "/api/usage"))[1]["per_minute"] == {
        **{"requests": 2, "tokens": 9},
        "models": {"m": {"requests": 2, "tokens": 9}},
        "keys": {"alice": {"requests": 1, "tokens": 7}},
    }


@pytest.mark.parametrize(
    ("query", "param"),
    [("by=", "by"), ("by=client", "by"), ("by=day,day", "by"), ("since=x", "since"), ("since=nan", "since")],
)
async def test_sums_that_cannot_be_asked(query: str, param: str, client: Client) -> None:
    status, answer = await get(client, f"/api/usage?{query}")
    assert (status, answer["error"]["param"]) == (400, param)


async def test_all_of_it_in_the_gateway(serve: Serve) -> None:
    client = await serve()
    response = await client.post("/v1/chat/completions", json=chat_body("m"), headers={"X-Request-Id": "r/1"})
    assert response.status == 200
    response = await client.post("/v1/chat/completions", json=chat_body("m"), headers={"X-Request-Id": "r-2"})
    row = await (await client.get("/api/requests/r-2")).json()
    assert (row["id"], row["model"], row["state"]) == ("r-2", "m", "ok")
    assert (await client.get("/api/requests/r-3")).status == 404
    assert (await client.delete("/api/requests/r-2")).status == 404
    assert (await client.get("/api/usage")).status == 200
