"""What the meter costs on the way of every byte: `python -m bench.meter [--rounds N]`.

Owns a table of microseconds of processor time a piece, the quickest round of many and the median, on pieces as
llama-server sends them: nothing here starts an engine or opens a socket. The line "framing alone" is what the data
plane does anyway, to see where a chunked body ends.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.quiet import Calibration, calibrate, is_quiet
from llamaproxy.core.framing import ChunkedBody, chunk
from llamaproxy.core.response import Framing
from llamaproxy.core.routing import Dialect
from llamaproxy.core.stripping import Unasked, UsageStripper
from llamaproxy.core.usage import DocumentMeter, StreamMeter
from llamaproxy.server.outlet import outlet

PIECES = 2000
"""Of each turn."""
BODY = 20 * 1024 * 1024
"""Bytes of the large body."""
READ = 64 * 1024
"""Bytes of a read of it."""

_ID = {"created": 1_700_000_000, "id": "chatcmpl-0KqvZ8mS3nXrT5yB1cDfGhJk2LpW4uE7", "model": "qwen3-8b"}
_TIMINGS = {"cache_n": 31, "prompt_n": 1, "prompt_ms": 6.86, "predicted_n": 9, "predicted_per_second": 141.2}

Feed = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: what is fed to whom, and how many pieces that counts as."""

    name: str
    piece: bytes
    consumer: Callable[[], Feed]
    count: int = PIECES


def event(document: dict[str, Any], name: str = "", compact: bool = True) -> bytes:
    text = json.dumps(document, separators=(",", ":") if compact else None)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def chat(**more: Any) -> dict[str, Any]:
    choice = {"finish_reason": None, "index": 0, "delta": {"content": " token"}}
    return {"choices": [choice], **_ID, "system_fingerprint": "b11434-1", "object": "chat.completion.chunk", **more}


def lines() -> Iterator[Line]:
    ordinary = event(chat())
    native = {"index": 0, "content": " token", "tokens": [441], "stop": False, "id_slot": -1, "tokens_predicted": 2}
    anthropic = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " token"}}
    kinds = {
        "chat": (Dialect.OPENAI, ordinary),
        "chat, spaced as Python does": (Dialect.OPENAI, event(chat(), compact=False)),
        "chat, timings_per_token": (Dialect.OPENAI, event(chat(timings=_TIMINGS))),
        "chat, usage in every event": (Dialect.OPENAI, event(chat(usage={"prompt_tokens": 1, "completion_tokens": 2}))),
        "completion": (Dialect.NATIVE, event(native)),
        "messages": (Dialect.ANTHROPIC, event(anthropic, "content_block_delta")),
    }
    for name, (dialect, piece) in kinds.items():
        yield Line(name, piece, partial(stream_meter, dialect))
    yield Line("chat, four events a piece", ordinary * 4, partial(stream_meter, Dialect.OPENAI))
    yield Line("chat, half an event a piece", ordinary[: len(ordinary) // 2], halves)
    yield Line("framing alone", chunk(ordinary), lambda: ChunkedBody().feed)
    yield Line("framing, and the meter as its payload", chunk(ordinary), framed_meter)
    timed = event(chat(timings=_TIMINGS))
    yield Line("usage taken out, nothing to take", ordinary, lambda: UsageStripper().through)
    yield Line("timings taken out, nothing to take", ordinary, without_timings)
    yield Line("timings taken out", timed, without_timings)
    yield Line("all of that, of a chunk with timings", chunk(timed), in_all)
    yield Line(f"large body, a read of {READ // 1024} KiB", b"0.0123456789," * (READ // 13), large_body, BODY // READ)


def without_timings() -> Feed:
    return outlet(Framing.CHUNKED, to_chunks=False, to_close=False, unasked=Unasked.TIMINGS).through


def in_all() -> Feed:
    """Framing, meter and outlet."""
    meter, through = StreamMeter(Dialect.OPENAI).feed, without_timings()

    def take(content: bytes) -> None:
        meter(content)
        through(content)

    return ChunkedBody(take).feed


def stream_meter(dialect: Dialect) -> Feed:
    return StreamMeter(dialect).feed


def halves() -> Feed:
    """Whatever the piece: one half of an event, and then the other."""
    whole, feed = event(chat()), StreamMeter(Dialect.OPENAI).feed
    parts = itertools.cycle((whole[: len(whole) // 2], whole[len(whole) // 2 :]))
    return lambda _: feed(next(parts))


def framed_meter() -> Feed:
    return ChunkedBody(StreamMeter(Dialect.OPENAI).feed).feed


def large_body() -> Feed:
    return DocumentMeter().feed


def turn(line: Line) -> float:
    """Microseconds a piece."""
    feed, piece = line.consumer(), line.piece
    begun = time.process_time_ns()
    for _ in range(line.count):
        feed(piece)
    return (time.process_time_ns() - begun) / line.count / 1000


def quiet_turns(line: Line, rounds: int) -> list[float]:
    """All turns, or those in which no neighbour was at work."""
    taken: list[tuple[float, Calibration]] = []
    for _ in range(rounds):
        before = calibrate()
        taken.append((turn(line), Calibration(before, calibrate())))
    quiet = [cost for cost, around in taken if is_quiet(around, [around for _, around in taken])]
    return quiet or [cost for cost, _ in taken]


def table(rows: Sequence[tuple[Line, Sequence[float]]]) -> list[str]:
    head = f"{'':42}{'bytes':>8}{'µs':>8}{'median':>8}"
    return [
        head,
        *(
            f"{line.name:42}{len(line.piece):>8}{min(costs):>8.2f}{statistics.median(costs):>8.2f}"
            for line, costs in rows
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.meter", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each line (9)")
    rounds = max(1, parser.parse_args(arguments).rounds)
    print("\n".join(table([(line, quiet_turns(line, rounds)) for line in lines()])))


if __name__ == "__main__":
    main()
