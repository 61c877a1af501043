"""Many requests of every kind on a real engine: the rows say what the engine itself has counted.

A part of the streams is left by its client at a random token. What cannot be compared is not asked for: an answer in
one piece that nobody waits for is worked at by the engine until it notices, and nobody hears of it.
"""

import asyncio
import itertools
import json
import random
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.test_ledger import ask, database
from tests.gateway import PATIENCE, Client, GatewayProcess, Table

_AT_ONCE = 12
_LEFT = 0.35
"""Of the streams."""
_OFF = 1
"""Token by which the row of a stream that was left may be wrong. Of those after the last that was told the row has one,
which the engine has begun; it may have had one more that it could not send, or have come to its end."""
_MOST = 40
"""Tokens of a stream that is left: it would never come to its end before."""
_COUNTERS = re.compile(
    r"^llamacpp:(prompt_tokens_total|prompt_tokens_cached_total|tokens_predicted_total|requests_processing) (\d+)", re.M
)
_COLUMNS = ("state", "status", "model", "prompt_tokens", "cached_tokens", "completion_tokens")
_WORDS = ("Say hello", "Count to ten", "Name a colour", "Repeat: 😀😍🎉 你好世界 and déjà vu", "What is 2 + 2?")
_CONTENT = re.compile(rb'"(?:content|text|delta)":"[^"]')


Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """One request; `leaves_after` events with content, if at all; `state` is what its row must say."""

    id: str
    path: str
    body: bytes
    leaves_after: int | None = None
    state: str = "ok"
    status: int | None = 200
    counted: bool = True

    @property
    def hides_cache(self) -> bool:
        """Embeddings never tell how much of the prompt was in the cache, /completion only at its end."""
        return self.path == "/v1/embeddings" or (self.path == "/completion" and self.leaves_after is not None)


def generating(id: str, chance: random.Random) -> Asked:
    """One of the four dialects or llama-server's own, whole or left."""
    dialect = chance.choice(("chat", "chat", "completions", "responses", "messages", "native"))
    stream = chance.random() < 0.6
    leaves = chance.randrange(1, 9) if stream and chance.random() < _LEFT else None
    # Of /v1/messages nobody tells the tokens of a character that takes several, nor the prompt where it is the first.
    words = "Count to ten" if dialect == "messages" else chance.choice(_WORDS) + " " * chance.randrange(3)
    said = [{"role": "user", "content": words}]
    most = _MOST if leaves else chance.randrange(1, 7)
    path, body = {
        "chat": ("/v1/chat/completions", {"messages": said, "max_tokens": most}),
        "completions": ("/v1/completions", {"prompt": words, "max_tokens": most}),
        "responses": ("/v1/responses", {"input": words, "max_output_tokens": most}),
        "messages": ("/v1/messages", {"messages": said, "max_tokens": most}),
        "native": ("/completion", {"prompt": words, "n_predict": most}),
    }[dialect]
    if stream and "chat" in path and chance.random() < 0.3:
        body["stream_options"] = {"include_usage": True}
    more = {"ignore_eos": True} if leaves else {}
    whole = {"model": "alpha", "stream": stream, "temperature": 0, **body, **more}
    state, status = ("client_abort", None) if leaves else ("ok", 200)
    return Asked(id, path, json.dumps(whole, ensure_ascii=False).encode(), leaves, state, status)


def other(id: str, chance: random.Random) -> Asked:
    """What generates nothing, or is refused by the gateway or by the engine."""
    chat = "/v1/chat/completions"
    long = [{"role": "user", "content": "Hello " * 3000}]
    return chance.choice(
        (
            Asked(id, "/v1/embeddings", b'{"model": "vectors", "input": ["Hello", "there"]}'),
            Asked(id, "/tokenize", b'{"model": "alpha", "content": "Hello"}', counted=False),
            Asked(id, chat, json.dumps({"model": "alpha", "messages": long}).encode(), status=400, counted=False),
            Asked(id, chat, b'{"model": "alpha"', state="rejected", status=400, counted=False),
            Asked(id, chat, b'{"model": "none", "messages": []}', state="rejected", status=404, counted=False),
        )
    )


def requests(count: int) -> list[Asked]:
    chance = random.Random(11)
    kinds = (generating if chance.random() < 0.9 else other for _ in itertools.count())
    return [kind(f"r-{number}", chance) for number, kind in zip(range(count), kinds, strict=False)]


async def send(client: Client, asked: Asked, seen: dict[str, int]) -> None:
    """Every one on a connection of its own: to leave is to close it. `seen` are events with content, until then."""
    headers = {"Content-Type": "application/json", "X-Request-Id": asked.id, "Connection": "close"}
    async with client.session.post(client.gateway.url + asked.path, data=asked.body, headers=headers) as response:
        if asked.leaves_after is None:
            await response.read()
            return
        events = 0
        async for line in response.content:
            events += line.startswith(b"data:") and _CONTENT.search(line) is not None
            if events == asked.leaves_after:
                seen[asked.id] = events
                response.close()
                return


async def counters(client: Client, model: str) -> dict[str, int]:
    """Of the engine, once it is idle."""
    end = time.monotonic() + PATIENCE
    while True:
        async with client.session.get(f"{client.gateway.url}/upstream/{model}/metrics") as response:
            found = {name: int(value) for name, value in _COUNTERS.findall(await response.text())}
        if not found["requests_processing"]:
            return found
        assert time.monotonic() < end
        await asyncio.sleep(2)


@pytest.fixture
async def ours(binary: str, model_file: Path, tmp_path: Path) -> AsyncIterator[Client]:
    models = {
        "alpha": {"path": str(model_file), "ctx_size": 4096, "parallel": 4},
        "vectors": {"path": str(model_file), "ctx_size": 512, "args": ["--embeddings", "--pooling", "mean"]},
    }
    config: dict[str, Table] = {"engine": {"binary": binary, "args": ["--threads", "1"]}, "models": models}
    connector = aiohttp.TCPConnector(limit=_AT_ONCE, force_close=True)
    async with (
        GatewayProcess(tmp_path, config).running() as gateway,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        yield Client(gateway, session)


def rows_in(folder: Path) -> dict[str, Row]:
    """All that were asked for here, by their ids; those of the gateway's own routes have others."""
    found = ask(database(folder), f"SELECT id, {', '.join(_COLUMNS)} FROM requests WHERE id LIKE 'r-%'")
    rows = {id: dict(zip(_COLUMNS, cells, strict=True)) for id, *cells in found}
    assert len(rows) == len(found), "one row for each request"
    return rows


def check(asked: Asked, row: Row, seen: int) -> None:
    """`seen` events with content, by a client that left."""
    assert (row["state"], row["status"]) == (asked.state, asked.status), (asked, row)
    assert (row["prompt_tokens"] is not None) == (row["completion_tokens"] is not None) == asked.counted, (asked, row)
    assert (row["cached_tokens"] is not None) == (asked.counted and not asked.hides_cache), (asked, row)
    assert (row["completion_tokens"] or 0) >= seen, (asked, row)


def check_sums(rows: list[Row], engine: dict[str, int], left: int) -> None:
    """Of one model; `left` of its streams were left."""
    sums = {
        name: sum(row[name] or 0 for row in rows) for name in ("prompt_tokens", "cached_tokens", "completion_tokens")
    }
    more = engine["tokens_predicted_total"] - sums["completion_tokens"]
    print(f"{len(rows)} rows, {left} left: {sums}, {more} tokens more in the engine")
    assert sums["prompt_tokens"] == engine["prompt_tokens_total"] + engine["prompt_tokens_cached_total"]
    untold = sum(row["prompt_tokens"] for row in rows if row["cached_tokens"] is None)
    assert 0 <= engine["prompt_tokens_cached_total"] - sums["cached_tokens"] <= untold
    assert abs(more) <= _OFF * left


@pytest.mark.parametrize("count", [120, pytest.param(1000, marks=pytest.mark.soak)])
@pytest.mark.timeout(900)
async def test_sum_of_the_rows_is_what_the_engine_counted(ours: Client, tmp_path: Path, count: int) -> None:
    sent, seen = requests(count), dict[str, int]()
    await asyncio.gather(*(send(ours, asked, seen) for asked in sent))
    totals = await ours.settled()
    assert totals["received"] == count == sum(totals[state] for state in ("ok", "client_abort", "rejected"))
    engines = {model: await counters(ours, model) for model in ("alpha", "vectors")}
    await ours.gateway.stop()
    rows = rows_in(tmp_path)
    assert rows.keys() == {asked.id for asked in sent}
    for asked in sent:
        check(asked, rows[asked.id], seen.get(asked.id, 0))
    assert len(seen) > count / 10
    for model, engine in engines.items():
        mine = [row for row in rows.values() if row["model"] == model and row["completion_tokens"] is not None]
        check_sums(mine, engine, len(seen) if model == "alpha" else 0)


@pytest.mark.parametrize("asked", [False, True])
async def test_timings_of_each_token_are_only_for_who_asked_for_them(ours: Client, asked: bool) -> None:
    more = {"timings_per_token": True} if asked else {}
    async with ours.stream("alpha", max_tokens=6, temperature=0, ignore_eos=True, **more) as response:
        events = [json.loads(line[6:]) for line in (await response.text()).splitlines() if line.startswith("data: {")]
    have = ["timings" in event for event in events]
    assert have == ([False] + [asked] * 6 + [True])
    assert events[-1]["timings"]["predicted_n"] == 6
