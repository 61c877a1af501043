"""What is measured of the scheduler: each scenario is a load, run on every server in turn, and the marks for ours.

A scenario starts its servers anew for each run and ends by its own deadline. Loads stand in `load`, servers in
`peers`, tables in `report`.
"""

import asyncio
import itertools
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import tiny_model
from bench.load import SHORTEST, Answer, Ask, client, closed_loops, send, summary
from bench.peers import PEERS, Gateway, Peer, Setting
from bench.report import Mark, Result, Row, all_of, at_most, ratio

DEADLINE = 240.0
"""Seconds for the load of one run."""
BOTH = ("llamaproxy", "router")
_KILL_EVERY = (0.6, 1.5)
_SEED = 7


@dataclass(frozen=True, slots=True)
class Plan:
    """What the command line says; `max_wait` and `give_up` in seconds."""

    engine: str
    model: Path
    rounds: int = 2
    threads: int = 1
    max_wait: float = 15.0
    give_up: float = 40.0

    def setting(self, models: str = "ab", settings: Mapping[str, Mapping[str, Any]] | None = None) -> Setting:
        """Models of one letter each, all of the same file, one of them at a time."""
        return self.with_files(dict.fromkeys(models, self.model), settings=settings or {})

    def with_files(self, models: Mapping[str, Path], **others: Any) -> Setting:
        return Setting(self.engine, models, threads=self.threads, **others)

    def turns(self) -> Iterator[tuple[int, type[Peer]]]:
        """Every server in every round; who is first changes, so that no one always runs on the warmer machine."""
        for number in range(1, self.rounds + 1):
            for kind in PEERS if number % 2 else reversed(PEERS):
                yield number, kind


def alternating(models: str, count: int, max_tokens: int = 8) -> list[Ask]:
    return [Ask(models[number % len(models)], max_tokens) for number in range(count)]


def fewest_starts(asks: Sequence[Ask], clients: int) -> int:
    """With room for one of two models: a swap can wait until every client waits for the other, and no longer."""
    line = iter(asks)
    waiting = [ask.model for ask in itertools.islice(line, clients)]
    starts = 0
    while waiting:
        starts, resident = starts + 1, waiting[0]
        while resident in waiting:
            waiting.remove(resident)
            waiting += [ask.model for ask in itertools.islice(line, 1)]
    return starts


async def swaps(plan: Plan, count: int, clients: int, most_starts: int, share: float) -> Result:
    """A and B in turn, with room for one of them."""
    rows, asks = [], alternating("ab", count)
    for number, kind in plan.turns():
        async with kind(plan.setting()) as peer:
            answers = await closed_loops(peer.url, asks, clients, DEADLINE)
            rows.append(Row(peer.name, {**await peer.figures(), **summary(answers, count)}, number))
    marks = [
        all_of(rows, "llamaproxy", "ok", count),
        at_most(rows, "llamaproxy", "starts", max(most_starts, fewest_starts(asks, clients))),
        ratio(rows, BOTH, "total_s", share),
    ]
    return Result(f"A and B alternating, {count} requests, {clients} at a time, room for one", rows, marks)


async def many_clients(plan: Plan) -> Result:
    """Four starts were hoped for; the load allows no fewer than five."""
    return await swaps(plan, 100, 16, most_starts=4, share=1.0)


async def two_clients(plan: Plan) -> Result:
    return await swaps(plan, 60, 2, most_starts=25, share=0.6)


async def constant_load(plan: Plan) -> Result:
    """One request for B while four clients never leave A in peace."""
    rows = []
    for number, kind in plan.turns():
        async with kind(plan.setting(settings={"limits": {"max_wait": plan.max_wait}})) as peer:
            b, on_a, sent = await _b_beside_a(peer, plan.give_up)
            rows.append(Row(peer.name, await _waits(peer, plan, b, on_a, sent), number))
    marks = [all_of(rows, "llamaproxy", "b_ok", 1), at_most(rows, "llamaproxy", "a_failed", 0), _bounded(rows)]
    return Result(f"B while A is under constant load, max_wait {plan.max_wait:g} s", rows, marks)


def _bounded(rows: Sequence[Row]) -> Mark:
    """In every round."""
    ours = [row.values for row in rows if row.peer == "llamaproxy"]
    worst = max(ours, key=lambda values: values["b_waited_s"] - values["bound_s"])
    text = f"B waited {worst['b_waited_s']:.2f} s, at most max_wait + A's longest + load: {worst['bound_s']:.2f} s"
    return Mark(text, worst["b_waited_s"] <= worst["bound_s"])


async def _b_beside_a(peer: Peer, patience: float) -> tuple[Answer, list[Answer], int]:
    """B's answer, those of A, and how many requests for A were sent. A's clients stop when B is answered."""
    answered = asyncio.Event()
    sent = 0

    def on_a() -> Iterator[Ask]:
        nonlocal sent
        while not answered.is_set():
            sent += 1
            yield Ask("a", 32)

    async with client() as session:
        await send(session, peer.url, Ask("a"))
        async with asyncio.TaskGroup() as group:
            load = group.create_task(closed_loops(peer.url, on_a(), 4, DEADLINE))
            await asyncio.sleep(1)
            b = await send(session, peer.url, Ask("b", timeout=patience))
            answered.set()
    return b, load.result(), sent


async def _waits(peer: Peer, plan: Plan, b: Answer, on_a: list[Answer], sent: int) -> dict[str, float]:
    """A request for A that ended before B's was served before the swap."""
    before = [answer.seconds for answer in on_a if answer.ended_at <= b.ended_at]
    a_ok = sum(answer.ok for answer in on_a)
    values = {"b_ok": b.ok, "b_s": b.seconds, "a_ok": a_ok, "a_failed": sent - a_ok, "a_longest_s": max(before)}
    if isinstance(peer, Gateway):
        values["b_waited_s"] = await peer.waited("b")
        values["bound_s"] = plan.max_wait + max(before) + await peer.load_seconds()
    return {**await peer.figures(), **values}


async def herd(plan: Plan) -> Result:
    """500 first requests at once for a model that is not running."""
    count, rows = 500, []
    for number, kind in plan.turns():
        async with kind(plan.setting("a")) as peer:
            answers = await closed_loops(peer.url, alternating("a", count, 4), count, DEADLINE)
            rows.append(Row(peer.name, {**await peer.figures(), **summary(answers, count)}, number))
    marks = [all_of(rows, "llamaproxy", "ok", count), at_most(rows, "llamaproxy", "starts", 1)]
    return Result(f"{count} simultaneous requests for one cold model", rows, marks)


async def kills(plan: Plan) -> Result:
    """kill -9 of the engine again and again while four clients ask for what it can do in so short a life."""
    count, rows = 200, []
    asks = [Ask("a", 2, SHORTEST)] * count
    for number, kind in plan.turns():
        async with kind(plan.setting("a")) as peer:
            answers, killed = await under_fire(peer, asks, 4, _KILL_EVERY)
            rows.append(Row(peer.name, {"kills": killed, **await peer.figures(), **summary(answers, count)}, number))
    return Result(f"{count} requests, kill -9 every 0.6 to 1.5 s", rows, [all_of(rows, "llamaproxy", "ok", count)])


async def endurance(plan: Plan) -> Result:
    """1,000 requests over many swaps and kills, on models that load in a blink."""
    count, rows = 1000, []
    with tempfile.TemporaryDirectory(prefix="lp-bench-") as folder:
        models = dict.fromkeys("abcdef", tiny_model.write(Path(folder) / "tiny.gguf"))
        for number in range(1, plan.rounds + 1):
            chance = random.Random(_SEED + number)
            asks = [Ask(chance.choice("abcdef"), 4, timeout=60.0) for _ in range(count)]
            async with Gateway(plan.with_files(models, ctx_size=512)) as peer:
                answers, killed = await under_fire(peer, asks, 8, (0.1, 0.5))
                rows.append(
                    Row(peer.name, {"kills": killed, **await peer.figures(), **_losses(answers, count)}, number)
                )
    swaps = min(row.values["starts"] - row.values["kills"] for row in rows)
    marks = [all_of(rows, "llamaproxy", "ok", count), Mark(f"swaps: {swaps:.0f}, at least 50", swaps >= 50)]
    return Result(f"{count} requests over swaps of six models and random kills", rows, marks)


def _losses(answers: list[Answer], asked: int) -> dict[str, float]:
    return {
        **summary(answers, asked),
        "5xx": sum((answer.status or 0) >= 500 for answer in answers),
        "hung": sum(answer.hung for answer in answers),
        "lost": asked - len(answers) + sum(answer.status is None and not answer.hung for answer in answers),
    }


async def under_fire(peer: Peer, asks: list[Ask], clients: int, every: tuple[float, float]) -> tuple[list[Answer], int]:
    """The answers of closed loops while engines of the server are killed at random, and how many were."""
    chance = random.Random(_SEED)
    killed = 0

    async def fire() -> None:
        nonlocal killed
        while True:
            await asyncio.sleep(chance.uniform(*every))
            killed += peer.kill_an_engine(chance)

    async with asyncio.TaskGroup() as group:
        firing = group.create_task(fire())
        answers = await closed_loops(peer.url, asks, clients, DEADLINE)
        firing.cancel()
    return answers, killed
