"""llamaproxy.backends.slot_actions: what is asked of an engine, and answers that cannot be believed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from llamaproxy.backends.command import Address
from llamaproxy.backends.slot_actions import Slot, SlotsRefused, list_slots, restore_slot, save_slot
from llamaproxy.backends.upstream import Upstream

pytestmark = pytest.mark.timeout(30)

# As b11434 gives them: the second has served a request, the first nothing in this life.
LISTED = [
    {"id": 0, "n_ctx": 4096, "speculative": False, "is_processing": False},
    {"id": 3, "n_ctx": 4096, "is_processing": True, "id_task": 6, "n_prompt_tokens": 284},
]


class Engine:
    """Answers everything alike, and remembers the last question."""

    def __init__(self, status: int, answer: bytes) -> None:
        self.status, self.answer = status, answer
        self.asked: tuple[str, str, Any] = ("", "", None)

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked = (request.method, request.path_qs, orjson.loads(body) if body else None)
        return web.Response(status=self.status, body=self.answer, content_type="application/json")


@asynccontextmanager
async def answering(answer: Any, status: int = 200) -> AsyncIterator[tuple[Engine, Upstream]]:
    engine = Engine(status, answer if isinstance(answer, bytes) else orjson.dumps(answer))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", engine.handle)
    async with TestServer(app, host="127.0.0.1") as server:
        upstream = Upstream(Address(port=server.port, key="k"))
        try:
            yield engine, upstream
        finally:
            await upstream.close()


async def test_slots_are_listed_with_what_they_last_served() -> None:
    async with answering(LISTED) as (engine, upstream):
        assert await list_slots(upstream) == [Slot(0, False, -1), Slot(3, True, 6)]
        assert engine.asked == ("GET", "/slots", None)


async def test_a_save_names_slot_and_file_and_tells_the_tokens() -> None:
    async with answering({"id_slot": 3, "filename": "x.part", "n_saved": 274, "n_written": 6318116}) as (
        engine,
        upstream,
    ):
        assert await save_slot(upstream, 3, "x.part") == 274
        assert engine.asked == ("POST", "/slots/3?action=save", {"filename": "x.part"})


async def test_so_does_a_restore() -> None:
    async with answering({"id_slot": 0, "filename": "x.kv", "n_restored": 274}) as (engine, upstream):
        assert await restore_slot(upstream, 0, "x.kv") == 274
        assert engine.asked == ("POST", "/slots/0?action=restore", {"filename": "x.kv"})


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"not json",
        {"slots": LISTED},
        ["slot"],
        [{"is_processing": False}],
        [{"id": "0"}],
        [{"id": True}],
        [{"id": 0, "id_task": None}],
        [{"id": 0}] * 1001,
    ],
)
async def test_a_list_that_makes_no_sense_is_refused(answer: Any) -> None:
    async with answering(answer) as (_, upstream):
        with pytest.raises(SlotsRefused):
            await list_slots(upstream)


@pytest.mark.parametrize("answer", [{}, [], {"n_saved": "274"}, {"n_saved": -5}, {"n_saved": 2.5}])
async def test_so_is_a_count_that_is_none(answer: Any) -> None:
    async with answering(answer) as (_, upstream):
        with pytest.raises(SlotsRefused):
            await save_slot(upstream, 0, "x")


@pytest.mark.parametrize(("status", "unsupported"), [(400, False), (500, False), (501, True)])
async def test_what_the_engine_says_is_passed_on(status: int, unsupported: bool) -> None:
    error = {"error": {"message": "invalid slot save file" + " and so on" * 1000}}
    async with answering(error, status) as (_, upstream):
        with pytest.raises(SlotsRefused, match=f"{status}: .*invalid slot save file") as refused:
            await restore_slot(upstream, 0, "x")
    assert refused.value.unsupported is unsupported
    assert len(str(refused.value)) < 400
