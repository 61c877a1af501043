"""Load: chat requests from closed loops of clients, and statistics over their answers.

Nothing here knows which server it asks. A request that fails is an answer like any other, and no request outlives the
end that it is given: what a server leaves hanging is seen, and not waited for.
"""

import asyncio
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

Message = Mapping[str, str]
SHORT: tuple[Message, ...] = ({"role": "user", "content": "Name a colour."},)
"""About 30 tokens, with what the template puts in front."""
SHORTEST: tuple[Message, ...] = ({"role": "system", "content": ""}, {"role": "user", "content": "Hi"})
"""About ten."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One chat request. `timeout` in seconds, after which its client gives up."""

    model: str
    max_tokens: int = 8
    messages: Sequence[Message] = SHORT
    timeout: float = 120.0

    def body(self, stream: bool = False) -> dict[str, Any]:
        """`ignore_eos`, so that every request is the same work."""
        fixed = {"temperature": 0, "ignore_eos": True, "stream": stream}
        return {"model": self.model, "messages": list(self.messages), "max_tokens": self.max_tokens, **fixed}


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request; `status` None: nothing, or not all of it.

    Times in seconds: `asked_at` and `ended_at` of the monotonic clock, `first_token` since the request was sent.
    `timings` are llama-server's own.
    """

    model: str
    status: int | None
    asked_at: float
    ended_at: float
    error: str = ""
    hung: bool = False
    first_token: float | None = None
    timings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.status == 200 and not self.error

    @property
    def seconds(self) -> float:
        return self.ended_at - self.asked_at


def client() -> aiohttp.ClientSession:
    """A connection for each request, as many as there are: when a server closes idle ones is not what is measured."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))


async def send(session: aiohttp.ClientSession, url: str, ask: Ask, stream: bool = False) -> Answer:
    """Ask once, and say what came of it. Raises nothing that the server or the network can cause."""
    begun = time.monotonic()
    limit = aiohttp.ClientTimeout(total=ask.timeout, sock_connect=ask.timeout)
    try:
        async with session.post(url + "/v1/chat/completions", json=ask.body(stream), timeout=limit) as response:
            if stream and response.status == 200:
                return await _read_stream(response, ask.model, begun)
            return _judge(ask.model, response.status, await response.read(), begun)
    except TimeoutError:
        return Answer(ask.model, None, begun, time.monotonic(), f"nothing within {ask.timeout:.0f} s", hung=True)
    except aiohttp.ClientError as error:
        return Answer(ask.model, None, begun, time.monotonic(), f"{type(error).__name__}: {error}")


def _judge(model: str, status: int, body: bytes, begun: float) -> Answer:
    """A whole answer has choices; anything else, whatever its status, is none."""
    ended = time.monotonic()
    try:
        answer = json.loads(body)
        whole = status == 200 and bool(answer["choices"])
    except (ValueError, LookupError, TypeError):
        return Answer(model, status, begun, ended, body.decode("utf-8", "replace")[:200] or "an empty body")
    error = "" if whole else str(answer)[:200]
    return Answer(model, status, begun, ended, error, timings=answer.get("timings", {}))


async def _read_stream(response: aiohttp.ClientResponse, model: str, begun: float) -> Answer:
    """Server-sent events of one line each, as llama-server sends them; the timings stand in the last."""
    first: float | None = None
    timings: Mapping[str, Any] = {}
    error = "the stream ended without [DONE]"
    async for line in response.content:
        if line.startswith(b"data: [DONE]"):
            error = ""
        elif line.startswith(b"data: "):
            event = json.loads(line[6:])
            if "error" in event:
                error = str(event["error"])[:200]
                break
            timings = event.get("timings", timings)
            if first is None and any(choice["delta"].get("content") for choice in event.get("choices", ())):
                first = time.monotonic() - begun
    return Answer(model, response.status, begun, time.monotonic(), error, first_token=first, timings=timings)


async def closed_loops(url: str, asks: Iterable[Ask], clients: int, deadline: float) -> list[Answer]:
    """So many clients, each of which takes the next request when its last one is answered.

    Ends `deadline` seconds from now at the latest, whatever is left: requests in flight have hung by then, others are
    not sent.
    """
    end = time.monotonic() + deadline
    line: Iterator[Ask] = iter(asks)
    answers: list[Answer] = []

    async def one(session: aiohttp.ClientSession) -> None:
        for ask in line:
            if (left := end - time.monotonic()) <= 0:
                return
            answers.append(await send(session, url, replace(ask, timeout=min(ask.timeout, left))))

    async with client() as session:
        await asyncio.gather(*(one(session) for _ in range(clients)))
    return answers


def percentile(values: Sequence[float], share: float) -> float:
    """The least of the values that at least this share (0 to 1) of them does not exceed; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def summary(answers: Sequence[Answer], asked: int) -> dict[str, float]:
    """How many were answered, how long they waited and how long it took altogether, in seconds."""
    waits = [answer.seconds for answer in answers if answer.ok]
    begun = min((answer.asked_at for answer in answers), default=0.0)
    ended = max((answer.ended_at for answer in answers), default=0.0)
    return {
        "ok": len(waits),
        "failed": asked - len(waits),
        "total_s": ended - begun,
        "p50_s": percentile(waits, 0.5),
        "p95_s": percentile(waits, 0.95),
        "max_s": percentile(waits, 1.0),
    }
