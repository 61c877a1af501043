"""llamaproxy.server.flights: requests that are ended by an operator, on the whole gateway."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, WSMsgType
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from llamaproxy.errors import QueueFull, RequestCancelled
from llamaproxy.server.flights import Flights, is_cancelled, reason
from llamaproxy.server.guard import fingerprint
from llamaproxy.tasks import spawn
from llamaproxy.telemetry.ledger import RequestRow
from tests.gateway import PATIENCE, chat_body, fake_model
from tests.server.conftest import Serve
from tests.server.test_upgrade import Site

Gateway = TestClient[Any, Any]
SLOW = {"FAKE_TOKEN_SECONDS": "0.05"}
STUCK = {"FAKE_HANG_BEFORE_FIRST_BYTE": "1"}
LOADING = {"FAKE_LOAD_SECONDS": "60"}


class TestFlights:
    def row(self, number: int, name: str = "r") -> RequestRow:
        return RequestRow(name, "chat/completions", "openai", "127.0.0.1", number=number)

    async def test_all_that_have_the_id_are_ended_once(self) -> None:
        flights, ended = Flights(), []

        async def serve(number: int, name: str) -> None:
            row, request = self.row(number, name), make_mocked_request("POST", "/")
            flights.begin(row, request)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                told = reason(request, error)
                await asyncio.sleep(0)
                ended.append((number, told.code, flights.end(row)))

        tasks = [spawn(serve(number, name), name="flight") for number, name in enumerate(("a", "a", "b"))]
        await asyncio.sleep(0)
        assert (flights.cancel("a"), flights.cancel("a"), flights.cancel("c")) == (2, 2, 0)
        await asyncio.gather(*tasks[:2])
        assert ended == [(0, "request_cancelled", True), (1, "request_cancelled", True)]
        assert flights.cancel("a") == 0
        tasks[2].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[2]

    def test_tokens_are_those_of_the_try_at_hand(self) -> None:
        class Metered:
            tokens = 3

        flights, row = Flights(), self.row(1)
        assert flights.tokens(row) is None
        flights.begin_try(row, Metered())
        assert flights.tokens(row) == 3
        flights.end_try(row)
        assert flights.tokens(row) is None

    def test_what_is_generated_is_that_of_the_tries_at_hand_and_of_the_rows_of_those_that_ended(self) -> None:
        class Metered:
            def __init__(self, tokens: int) -> None:
                self.tokens = tokens

        flights, rows = Flights(), [self.row(number) for number in range(2)]
        for tokens, row in enumerate(rows, start=3):
            flights.begin_try(row, Metered(tokens))
        assert flights.generated == 7
        rows[0].completion_tokens = 5
        for row in rows:
            flights.end_try(row)
        assert flights.generated == 5

    def test_a_client_that_left_is_told_nothing(self) -> None:
        request = make_mocked_request("POST", "/")
        assert not is_cancelled(request)
        with pytest.raises(asyncio.CancelledError):
            reason(request, asyncio.CancelledError())

    def test_an_error_stays_what_it_is(self) -> None:
        error = QueueFull("full")
        assert reason(make_mocked_request("POST", "/"), error) is error


async def serving(serve: Serve, folder: Path, faults: dict[str, str], **settings: Any) -> Gateway:
    """A gateway whose one model has these faults."""
    return await serve(models={"m": fake_model(folder, "m", env=faults, **settings)})


async def ask(client: Gateway, name: str = "r", **body: Any) -> tuple[int, Any]:
    response = await client.post(
        "/v1/chat/completions", json={**chat_body("m"), **body}, headers={"X-Request-Id": name}
    )
    return response.status, await response.json()


async def soon(look: Callable[[], Awaitable[bool]]) -> None:
    end = time.monotonic() + PATIENCE
    while not await look():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


async def in_flight(client: Gateway, count: int) -> None:
    async def look() -> bool:
        return len((await (await client.get("/api/requests?state=in_flight")).json())["requests"]) == count

    await soon(look)


async def model_is(client: Gateway, **wanted: Any) -> None:
    async def look() -> bool:
        model: dict[str, Any] = await (await client.get("/api/models/m")).json()
        return wanted.items() <= model.items()

    await soon(look)


async def cancel(client: Gateway, name: str = "r") -> tuple[int, Any]:
    response = await client.delete(f"/api/requests/{name}")
    return response.status, await response.json()


async def row(client: Gateway, name: str = "r") -> dict[str, Any]:
    found: dict[str, Any] = await (await client.get(f"/api/requests/{name}")).json()
    return found


class TestBeforeTheFirstByte:
    async def test_while_the_model_loads(self, serve: Serve, tmp_path: Path) -> None:
        client = await serving(serve, tmp_path, LOADING)
        asked = spawn(ask(client), name="ask")
        await model_is(client, state="starting", queued=1)
        assert await cancel(client) == (200, {"cancelled": 1})
        status, answer = await asked
        assert (status, answer["error"]["code"]) == (499, "request_cancelled")
        ended = await row(client)
        assert (ended["state"], ended["status"], ended["error"]) == ("rejected", 499, "request_cancelled")
        await model_is(client, queued=0, in_flight=0)

    async def test_while_it_is_queued_behind_another(self, serve: Serve, tmp_path: Path) -> None:
        client = await serving(serve, tmp_path, STUCK, concurrency=1)
        first, second = (spawn(ask(client, name), name=name) for name in ("first", "second"))
        await model_is(client, in_flight=1, queued=1)
        queued = "second" if (await row(client, "first"))["queue_ms"] is not None else "first"
        assert (await cancel(client, queued))[0] == 200
        await model_is(client, in_flight=1, queued=0)
        assert (await (second if queued == "second" else first))[0] == 499
        assert (await cancel(client, "first" if queued == "second" else "second"))[0] == 200
        await asyncio.gather(first, second)

    async def test_while_the_engine_is_silent_and_no_breaker_counts_it(self, serve: Serve, tmp_path: Path) -> None:
        client = await serving(serve, tmp_path, STUCK)
        asked = [spawn(ask(client, "twice"), name="ask") for _ in range(2)]
        await model_is(client, in_flight=2)
        assert await cancel(client, "twice") == (200, {"cancelled": 2})
        assert {status for status, _ in await asyncio.gather(*asked)} == {499}
        await model_is(client, in_flight=0, breaker={"state": "closed", "reason": ""}, state="ready")

    async def test_while_its_body_arrives(self, serve: Serve, tmp_path: Path) -> None:
        client = await serving(serve, tmp_path, {})
        never = asyncio.Event()

        async def body() -> Any:
            yield b'{"model": "m", '
            await never.wait()

        headers = {"X-Request-Id": "r", "Content-Type": "application/json"}
        asked = spawn(client.post("/v1/chat/completions", data=body(), headers=headers), name="ask")
        await in_flight(client, 1)
        assert (await cancel(client))[0] == 200
        assert (await asked).status == 499
        never.set()

    async def test_the_connection_goes_on(self, serve: Serve, tmp_path: Path) -> None:
        client = await serving(serve, tmp_path, {**STUCK, "FAKE_HANG_BEFORE_FIRST_BYTE_TIMES": "1"})
        asked = spawn(ask(client), name="ask")
        await model_is(client, in_flight=1)
        await cancel(client)
        assert (await asked)[0] == 499
        assert (await ask(client, "next"))[0] == 200


class TestAfterTheFirstByte:
    async def test_a_stream_ends_with_an_error_and_without_its_end(self, serve: Serve, tmp_path: Path) -> None:
        client = await serving(serve, tmp_path, SLOW)
        body = {**chat_body("m"), "stream": True, "max_tokens": 1000}
        response = await client.post("/v1/chat/completions", json=body, headers={"X-Request-Id": "r"})
        said = await response.content.readany()
        assert (await cancel(client))[0] == 200
        with pytest.raises(ClientError):
            async for part in response.content.iter_any():
                said += part
        assert b'"code":"request_cancelled"' in said
        assert b"[DONE]" not in said
        ended = await row(client)
        assert (ended["state"], ended["status"], ended["error"]) == ("rejected", 200, "request_cancelled")
        await model_is(client, in_flight=0, breaker={"state": "closed", "reason": ""})

    async def test_a_stream_of_nothing_but_comments(self, serve: Serve, tmp_path: Path) -> None:
        models = {"m": fake_model(tmp_path, "m", env=LOADING)}
        client = await serve(models=models, limits={"waiting_comments": 0.02})
        body = {**chat_body("m"), "stream": True}
        response = await client.post("/v1/chat/completions", json=body, headers={"X-Request-Id": "r"})
        said = await response.content.readany()
        assert said.startswith(b": ")
        assert (await cancel(client))[0] == 200
        with pytest.raises(ClientError):
            async for part in response.content.iter_any():
                said += part
        assert b'"code":"request_cancelled"' in said
        assert (await row(client))["state"] == "rejected"

    async def test_comments_and_a_silent_engine_take_of_the_key_what_was_reserved(
        self, serve: Serve, tmp_path: Path
    ) -> None:
        model = fake_model(tmp_path, "m", env={**STUCK, "FAKE_LOAD_SECONDS": "0.3"})
        keys = {"k": {"sha256": fingerprint("secret"), "tpm": 1000}}
        client = await serve(models={"m": model}, limits={"waiting_comments": 0.02}, keys=keys)
        client.session.headers["Authorization"] = "Bearer secret"
        headers = {"X-Request-Id": "r"}
        body = {**chat_body("m"), "stream": True, "max_tokens": 600}
        response = await client.post("/v1/chat/completions", json=body, headers=headers)
        assert (await response.content.readany()).startswith(b": ")
        await model_is(client, state="ready", in_flight=1)
        assert (await cancel(client))[0] == 200
        with pytest.raises(ClientError):
            await response.read()
        after = await client.post("/v1/chat/completions", json=body)
        assert after.status == 429, "nobody knows what the engine has done for it"
        assert int(after.headers["x-ratelimit-remaining-tokens"]) < 400

    async def test_a_websocket_is_cut_off(self, serve: Serve) -> None:
        async with TestServer(Site().application()) as server:
            client = await serve(models={"m": {"url": str(server.make_url("/base"))}})
            socket = await client.ws_connect("/upstream/m/echo", headers={"X-Request-Id": "r"})
            assert await socket.receive_str() == "hello"
            assert (await cancel(client))[0] == 200
            assert (await socket.receive()).type in (WSMsgType.CLOSED, WSMsgType.CLOSE, WSMsgType.ERROR)
            ended = await row(client)
            assert (ended["state"], ended["status"], ended["error"]) == ("rejected", 101, "request_cancelled")


async def test_what_is_not_in_flight_cannot_be_cancelled(serve: Serve) -> None:
    client = await serve()
    assert (await ask(client))[0] == 200
    for name in ("r", "nobody"):
        status, answer = await cancel(client, name)
        assert (status, answer["error"]["code"]) == (404, "not_found")
    assert (await row(client))["state"] == "ok"


def test_the_status_is_none_that_clients_send_again() -> None:
    """OpenAI's SDKs repeat 408, 409, 429 and 5xx."""
    assert RequestCancelled.status == 499
