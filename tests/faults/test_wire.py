"""Backends whose bytes are wrong, that close when it suits them, or that answer nothing but errors."""

import asyncio
import itertools
from pathlib import Path

import aiohttp
import pytest

from tests.faults.conftest import Start
from tests.gateway import FAKE_ENGINE as FAKE
from tests.gateway import PATIENCE, Client, Table, chat_body, fake_model

HEADS = ("status", "nul_header", "both_lengths", "early_close")
"""What is wrong before a byte of the body has come."""


async def test_answer_that_is_no_http_is_a_bad_gateway_for_its_request_alone(start: Start, tmp_path: Path) -> None:
    models = {kind: fake_model(tmp_path, kind, env={"FAKE_MALFORMED": kind}) for kind in HEADS}
    models["good"] = fake_model(tmp_path, "good")
    async with start({"models": models, "limits": {"models_max": len(models)}}) as client:
        await client.chat("good")
        for kind in HEADS:
            status, body = await client.chat(kind)
            assert (status, body["error"]["code"]) == (502, "bad_upstream_response"), kind
            assert (await client.chat("good"))[0] == 200
            assert client.gateway.spawns(kind) == 1, "a process that tells its health is not killed for it"
        rows = [row for row in await client.rows() if row["model"] != "good"]
        assert {(row["state"], row["replays"]) for row in rows} == {("upstream_error", 2)}


async def test_answer_that_is_no_http_once_is_asked_for_again(start: Start, tmp_path: Path) -> None:
    env = {"FAKE_MALFORMED_TIMES": "1"}
    models = {kind: fake_model(tmp_path, kind, env={"FAKE_MALFORMED": kind, **env}) for kind in HEADS}
    async with start({"models": models, "limits": {"models_max": len(models)}}) as client:
        answers = await asyncio.gather(*(client.chat(kind) for kind in HEADS))
        assert [status for status, _ in answers] == [200] * len(HEADS)
        assert {(row["state"], row["replays"]) for row in await client.rows()} == {("ok", 1)}


BODIES = ("short_body", "short_chunk", "bad_chunk")
"""What is wrong after its first bytes. Where all of it comes at once, nothing has gone to the client yet."""


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_body_that_breaks_off_is_never_taken_for_a_whole_one(start: Start, tmp_path: Path, stream: bool) -> None:
    models = {kind: fake_model(tmp_path, kind, env={"FAKE_MALFORMED": kind}) for kind in BODIES}
    models["good"] = fake_model(tmp_path, "good")
    async with start({"models": models, "limits": {"models_max": len(models)}}) as client:
        ends = []
        for kind in BODIES:
            ends.append(await end_of(client, kind, stream))
            assert (await client.chat("good"))[0] == 200
        rows = [row["state"] for row in await client.rows() if row["model"] != "good"]
        assert rows[::-1] == ends
        assert [client.gateway.spawns(kind) for kind in BODIES] == [1, 1, 1]


async def end_of(client: Client, model: str, stream: bool) -> str:
    """The state that its row must have."""
    try:
        async with client.post("/v1/chat/completions", {**chat_body(model), "stream": stream}) as response:
            body = await response.read()
    except aiohttp.ClientPayloadError:
        return "truncated"
    assert (response.status, b"bad_upstream_response" in body) == (502, True)
    return "upstream_error"


async def test_head_of_a_byte_a_second_is_a_stall(start: Start, tmp_path: Path) -> None:
    config: dict[str, Table] = {
        "engine": {"binary": str(FAKE), "first_byte_timeout": "1s"},
        "models": {
            "slow": fake_model(tmp_path, "slow", env={"FAKE_MALFORMED": "slow_header"}),
            "good": fake_model(tmp_path, "good"),
        },
    }
    async with start(config) as client:
        await client.chat("good")
        stalled = asyncio.create_task(client.chat("slow"))  # noqa: TID251 - a test has no use for tasks.spawn
        await client.state_is("slow", "ready")
        assert (await client.chat("good"))[0] == 200
        status, body = await stalled
        assert (status, body["error"]["code"]) == (504, "upstream_stalled")


async def test_engine_that_answers_only_errors_is_isolated_and_replaced(start: Start, tmp_path: Path) -> None:
    models = {
        "bad": fake_model(tmp_path, "bad", env={"FAKE_INFERENCE_500": "1", "FAKE_INFERENCE_500_TIMES": "3"}),
        "good": fake_model(tmp_path, "good"),
    }
    async with start({"models": models, "breaker": {"request_failures": 3, "open": "2s"}}) as client:
        await client.chat("good")
        for _ in range(3):
            status, body = await client.chat("bad")
            assert (status, body["error"]["message"]) == (500, "the fake engine was told to fail"), "its own words pass"
        await client.state_is("bad", "stopped")
        assert (await client.model("bad"))["breaker"] == {"state": "open", "reason": "the engine answered 500"}
        status, body = await client.chat("bad")
        assert (status, body["error"]["code"]) == (503, "model_unavailable")
        assert (await client.chat("good"))[0] == 200
        assert client.gateway.spawns("bad") == 1, "nothing is started for it"
        async with asyncio.timeout(PATIENCE):
            while (await client.model("bad"))["breaker"]["state"] == "open":
                assert (await client.chat("good"))[0] == 200
        assert (await client.chat("bad"))[0] == 200
        assert client.gateway.spawns("bad") == 2
        assert (await client.model("bad"))["breaker"]["state"] == "closed"


REST = 0.5
"""Seconds: of a client between its requests, and until the engine closes an idle connection."""


async def test_connections_that_the_engine_closes_cost_no_request(start: Start, tmp_path: Path) -> None:
    """At the moment of reuse, or after just the rest that a client makes between its requests."""
    faults = {"reused": {"FAKE_CLOSE_REUSED": "1"}, "rested": {"FAKE_KEEPALIVE": str(REST)}}
    models = {name: fake_model(tmp_path, name, parallel=8, env=env) for name, env in faults.items()}
    async with start({"models": models}) as client:

        async def ask(model: str, times: int, rest: float) -> list[int]:
            statuses = []
            for _ in range(times):
                statuses.append((await client.chat(model, max_tokens=1))[0])
                await asyncio.sleep(rest)
            return statuses

        hasty = (ask("reused", 40, 0) for _ in range(25))
        calm = (ask("rested", 10, REST) for _ in range(100))
        assert set(itertools.chain(*await asyncio.gather(*hasty, *calm))) == {200}
        assert await client.totals() == {"received": 2000, "in_flight": 0, "ok": 2000}
        assert client.gateway.spawns() == 2
