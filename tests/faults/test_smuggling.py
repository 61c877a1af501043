"""Framings that two readers may read in two ways: an engine gets what was granted, and nothing that hides in it.

Source of the second opinion: h11. What it refuses may be understood here, but not as several requests; what both
understand has the same body.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.faults.conftest import Start
from tests.faults.framings import Conversation, Seen, corpus, mark, read_by_another
from tests.faults.raw import converse
from tests.gateway import Client, Table, fake_model

_AT_ONCE = 64
_BATCH = 250
"""Conversations after which the rows are compared; the ledger keeps 1,000."""
_SILENCE = 5.0
"""Seconds after which nothing more is waited for: what is not whole has its deadlines elsewhere."""
_OWN = "/v1/chat/completions"
"""The test's own way to the engine."""

_UNKNOWN_HERE = (501, 505)
"""Methods, codings and versions."""

Numbered = tuple[int, Conversation]
Outcome = tuple[list[int], bool]


async def test_no_framing_makes_the_engine_see_what_was_not_granted(start: Start, tmp_path: Path) -> None:
    model = fake_model(tmp_path, "m", concurrency=512, env={"FAKE_RECORD": "1"})
    config: dict[str, Table] = {"models": {"m": model}, "server": {"port": 0, "body_timeout": "2s"}}
    cases = list(enumerate(corpus()))
    assert len(cases) >= 1000
    async with start(config) as client:
        await client.chat("m")
        outcomes: dict[int, Outcome] = {}
        for batch in _batches(cases):
            before = (await client.totals())["received"], len(_engine_lines(client))
            outcomes |= await _held(client.gateway.url, batch)
            await _check_rows(client, *before)
        seen = _seen_by_engine(client)
        for number, case in cases:
            other = read_by_another(case.numbered(number))
            _check_answers(case, other, *outcomes[number])
            _check_engine(case, other, seen.get(number, []))
        assert client.gateway.spawns() == 1


def _batches(cases: Sequence[Numbered]) -> Iterator[Sequence[Numbered]]:
    return (cases[begin : begin + _BATCH] for begin in range(0, len(cases), _BATCH))


async def _held(url: str, batch: Sequence[Numbered]) -> dict[int, Outcome]:
    free = asyncio.Semaphore(_AT_ONCE)

    async def hold(number: int, case: Conversation) -> tuple[int, Outcome]:
        async with free:
            return number, await converse(url, case.numbered(number), _SILENCE)

    return dict(await asyncio.gather(*(hold(*numbered) for numbered in batch)))


def _engine_lines(client: Client) -> list[list[str]]:
    """PID, METHOD, PATH, X-REQUEST-ID, TARGET and SHA256 of what these conversations asked the engine for."""
    requests = (line[1:] for line in client.gateway.journal() if line[0] == "request")
    return [line for line in requests if line[3] != "-" and line[2] != _OWN]


async def _check_rows(client: Client, received: int, lines: int) -> None:
    """What the engine got has a row of its own, and what has a good one the engine got."""
    rows = (await client.rows())[: (await client.settled())["received"] - received]
    granted = Counter(row["id"] for row in rows if row["endpoint"] == "upstream" and row["state"] != "rejected")
    answered = Counter(row["id"] for row in rows if row["endpoint"] == "upstream" and row["state"] == "ok")
    got = Counter(line[3] for line in _engine_lines(client)[lines:])
    assert got <= granted, got - granted
    assert answered <= got, answered - got


def _seen_by_engine(client: Client) -> dict[int, list[Seen]]:
    """By conversation, in the order in which it came."""
    seen: dict[int, list[Seen]] = {}
    for *_, target, digest in _engine_lines(client):
        found = mark(target)
        assert found, f"{target} has come from nowhere"
        seen.setdefault(int(found[-4:]), []).append((found, digest))
    return seen


def _check_answers(case: Conversation, other: list[Seen], statuses: list[int], closed: bool) -> None:
    assert all(status < 500 or status in _UNKNOWN_HERE for status in statuses), (case, statuses)
    assert 400 not in statuses[:-1], (case, "nothing is read behind what could not be understood", statuses)
    if case.plain:
        assert set(statuses) == {200}, (case, statuses)
    if not other and statuses == [400]:
        assert closed, (case, "nor is anything else waited for")


def _check_engine(case: Conversation, other: list[Seen], engine: list[Seen]) -> None:
    """Some may have been refused here."""
    if case.plain:
        assert engine == other, (case, engine, other)
    if other or len(engine) > 1:
        rest = iter(other)
        assert all(request in rest for request in engine), (case, engine, other)
    else:
        assert all(found.startswith("case") for found, _ in engine), (case, engine)
