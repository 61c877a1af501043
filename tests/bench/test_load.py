"""Closed loops of clients, against a server that does what its models are called."""

import asyncio
import math
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.load import Answer, Ask, client, closed_loops, percentile, send, summary

WHOLE = {"choices": [{"message": {"content": "x"}}], "timings": {"prompt_n": 3}}
CHUNK = b'data: {"choices": [{"delta": {"content": "x"}}], "timings": {"prompt_n": 3}}\n\n'


async def answer(request: web.Request) -> web.StreamResponse:
    asked = await request.json()
    match asked["model"]:
        case "hangs":
            await asyncio.Event().wait()
        case "fails":
            return web.json_response({"error": {"code": "model_unavailable"}}, status=503)
        case "breaks":
            assert request.transport
            request.transport.abort()
        case "lies":
            return web.Response(body=b"")
    if not asked["stream"]:
        return web.json_response(WHOLE)
    end = b"" if asked["model"] == "cut" else b"data: [DONE]\n\n"
    return web.Response(body=CHUNK + end, content_type="text/event-stream")


@pytest.fixture
async def url() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_every_request_of_the_line_is_sent_once(url: str) -> None:
    answers = await closed_loops(url, [Ask(f"m{n}") for n in range(20)], clients=3, deadline=30)
    assert sorted(a.model for a in answers) == sorted(f"m{n}" for n in range(20))
    assert all(a.ok and a.timings == {"prompt_n": 3} for a in answers)


@pytest.mark.parametrize(("model", "status"), [("fails", 503), ("breaks", None), ("lies", 200)])
async def test_what_is_no_answer_is_not_counted_as_one(url: str, model: str, status: int | None) -> None:
    [got] = await closed_loops(url, [Ask(model)], clients=1, deadline=30)
    assert (got.ok, got.status, got.hung) == (False, status, False)
    assert got.error


async def test_the_deadline_ends_what_hangs_and_sends_nothing_more(url: str) -> None:
    answers = await closed_loops(url, [Ask("hangs"), Ask("hangs"), Ask("m")], clients=2, deadline=0.2)
    assert [(a.model, a.hung) for a in answers] == [("hangs", True), ("hangs", True)]
    assert summary(answers, asked=3)["failed"] == 3


async def test_streams_have_a_first_token_and_an_end(url: str) -> None:
    async with client() as session:
        whole = await send(session, url, Ask("m"), stream=True)
        cut = await send(session, url, Ask("cut"), stream=True)
    assert whole.ok
    assert whole.first_token is not None
    assert whole.timings == {"prompt_n": 3}
    assert not cut.ok


def test_percentiles_are_values_that_were_measured() -> None:
    values = [4.0, 1.0, 3.0, 2.0]
    assert [percentile(values, share) for share in (0.25, 0.5, 0.95, 1.0)] == [1, 2, 4, 4]
    assert math.isnan(percentile([], 0.5))


def test_waits_of_those_that_failed_say_nothing() -> None:
    answers = [Answer("m", 200, 10, 11), Answer("m", 200, 10.5, 13), Answer("m", 503, 12, 12, "no")]
    assert summary(answers, asked=4) == {
        "ok": 2,
        "failed": 2,
        "total_s": 3.0,
        "p50_s": 1.0,
        "p95_s": 2.5,
        "max_s": 2.5,
    }
