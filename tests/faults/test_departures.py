"""Clients that leave, at any moment: the engine's connection goes with each of them, and nobody is asked in vain."""

import asyncio
import contextlib
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

from bench.fire import quantile
from tests.faults.conftest import KEY, Start
from tests.faults.raw import chat_request, connected
from tests.gateway import Client, chat_body, fake_model, until

_CLIENTS = 1000
_WAVE = 100
_LONGEST = {True: 0.3, False: 1.5}
"""Seconds that a client stays, by whether its answer is streamed: of a whole one it hears nothing, yet gets a place."""
_PACE = {"FAKE_PREFILL_SECONDS": "0.1", "FAKE_TOKEN_SECONDS": "0.02", "FAKE_RECORD": "1"}
_CONTEXT = 1 << 22
_TOKENS = {True: 10_000, False: 100}
"""By whether they are streamed: no answer ends before its client leaves."""


@dataclass(frozen=True)
class Departure:
    """`at` in seconds of the monotonic clock; `heard`: some of the answer had come."""

    name: str
    at: float
    heard: bool


async def test_engine_loses_its_connection_with_each_of_a_thousand_clients(start: Start, tmp_path: Path) -> None:
    model = fake_model(tmp_path, "m", parallel=128, ctx_size=_CONTEXT, concurrency=40, env=_PACE)
    moments = random.Random(5)
    async with start({"models": {"m": model}}) as client:
        await client.chat("m", max_tokens=1)
        gone: list[Departure] = []
        for wave in range(0, _CLIENTS, _WAVE):
            gone += await asyncio.gather(*(_visit(client, wave + number, moments) for number in range(_WAVE)))
        assert await client.settled() == {"received": _CLIENTS + 1, "in_flight": 0, "ok": 1, "client_abort": _CLIENTS}
        asked = {line[4] for line in client.gateway.journal() if line[0] == "request"}
        reached = [departure for departure in gone if departure.name in asked]
        lost = await until(lambda: _all_lost(client, reached), "the engine has lost all of them")
        delays = [lost[departure.name] - departure.at for departure in reached]
        print(
            f"upstream closed: p50 {quantile(delays, 0.5):.4f} s, p99 {quantile(delays, 0.99):.4f} s of {len(delays)}"
        )
        assert max(delays) < 5
        moments_met = [_CLIENTS - len(reached), sum(not d.heard for d in reached), sum(d.heard for d in reached)]
        assert min(moments_met) >= _CLIENTS / 20, ("queued, before the head, in the stream", moments_met)
        assert (await client.chat("m", max_tokens=1))[0] == 200
        assert client.gateway.spawns() == 1


async def _visit(client: Client, number: int, moments: random.Random) -> Departure:
    """Ask, stay for a moment, and leave without a word, or with what TCP calls a reset.

    Some count the moment from the first byte they hear, so that there are such on a slow machine, too.
    """
    stream, name = moments.random() < 0.9, f"visit-{number}"
    body = {**chat_body("m"), "stream": stream, "max_tokens": _TOKENS[stream]}
    stay, resets = moments.uniform(0, _LONGEST[stream]), moments.random() < 0.5
    hears = stream and moments.random() < 0.2
    async with connected(client.gateway.url) as (reader, writer):
        writer.write(chat_request(name, KEY, json.dumps(body).encode()))
        heard = hears and bool(await reader.read(1))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(stay):
                heard = bool(await reader.read(1)) or heard
                await asyncio.Event().wait()
        departed = time.monotonic()
        (writer.transport.abort if resets else writer.transport.close)()
    return Departure(name, departed, heard)


def _all_lost(client: Client, reached: list[Departure]) -> dict[str, float] | None:
    """When the engine lost each; nothing until it has lost all."""
    lost = {line[4]: float(line[5]) for line in client.gateway.journal() if line[0] == "aborted"}
    return lost if lost.keys() >= {departure.name for departure in reached} else None
