"""A long conversation that comes back after its model was evicted: what is processed anew, and how long that takes.

The gateway runs it twice where it can carry KV caches over a swap, with and without.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from bench.load import Answer, Ask, Message, client, send
from bench.peers import Gateway, Peer, Router
from bench.report import Mark, Result, Row, of
from bench.scenarios import Plan
from llamaproxy.config import Config

SENTENCES = 100
"""Of about 15 tokens each."""
_TIMEOUT = 180.0


def opening() -> list[Message]:
    """About 1,500 tokens."""
    story = " ".join(f"In year {1000 + n}, the keeper wrote down that {n} ships had passed." for n in range(SENTENCES))
    return [{"role": "user", "content": story + " What did the keeper write down?"}]


def continued() -> list[Message]:
    return [*opening(), {"role": "assistant", "content": "Ships."}, {"role": "user", "content": "And then?"}]


def variants() -> Iterator[tuple[str, type[Peer], Mapping[str, Mapping[str, Any]]]]:
    """Name, server and configuration of each; carrying over is told apart only where there is such a thing."""
    if "kv" in Config.model_fields:
        yield "llamaproxy, carried", Gateway, {"kv": {"carry": True}}
        yield "llamaproxy, not carried", Gateway, {"kv": {"carry": False}}
    else:
        yield "llamaproxy, not carried", Gateway, {}
    yield "router", Router, {}


async def returning(plan: Plan) -> Result:
    """A, then B, which evicts it, then A's conversation goes on."""
    rows = []
    for number in range(1, plan.rounds + 1):
        for name, kind, settings in variants():
            setting = plan.with_files(dict.fromkeys("ab", plan.model), ctx_size=4096, settings=settings)
            async with kind(setting) as peer:
                rows.append(Row(name, {**await _visit(peer), **await peer.figures()}, number))
    return Result("a conversation of about 1,500 tokens, back after an eviction", rows, _marks(rows))


async def _visit(peer: Peer) -> dict[str, float]:
    async with client() as session:
        first = await send(session, peer.url, Ask("a", 8, opening(), _TIMEOUT), stream=True)
        between = await send(session, peer.url, Ask("b", 8, timeout=_TIMEOUT))
        back = await send(session, peer.url, Ask("a", 8, continued(), _TIMEOUT), stream=True)
    for answer in (first, between, back):
        if not answer.ok:
            raise SystemExit(f"{peer.name}: {answer.error}\n{peer.log[-2000:]}")
    return {**_figures("first", first), **_figures("back", back)}


def _figures(prefix: str, answer: Answer) -> dict[str, float]:
    """Tokens of the prompt that were computed and that were there already; seconds from asking to the first token."""
    timings = answer.timings
    return {
        f"{prefix}_prompt": timings.get("prompt_n", 0),
        f"{prefix}_cached": timings.get("cache_n", 0),
        f"{prefix}_first_token_s": answer.first_token or 0.0,
    }


def _marks(rows: list[Row]) -> list[Mark]:
    """Where KV is carried, nearly all of the conversation is there when it comes back."""
    cached = of(rows, "llamaproxy, carried", "back_cached")
    computed = of(rows, "llamaproxy, carried", "back_prompt")
    shares = [c / (c + p) for c, p in zip(cached, computed, strict=True)]
    return (
        [Mark(f"carried over: {min(shares):.0%} of the prompt, at least 95 %", min(shares) >= 0.95)] if shares else []
    )
