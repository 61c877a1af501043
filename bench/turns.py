"""What is asked of a candidate: the kinds of load, and one turn of one candidate under one of them.

Owns the table of scenarios and what their figures mean. The load comes from `fire`, as a process of its own; processor
time and memory are the candidate's processes' alone.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.rivals import PROCESSORS, Running

ROOT = Path(__file__).parents[1]
IDLE_STREAMS = 2000
_FIRE_LIMIT = 120.0
"""Seconds after which a load generator that has not ended by itself is killed."""

Report = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures by name, and what went wrong on the way."""

    figures: Mapping[str, float]
    requests: int
    failures: int
    short: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """`figures` are the columns of its table; `measure` takes a candidate and a share of the full length.

    `fresh`: on a process that has done nothing else. `beside_direct`: figures are told as what they add to the direct
    way. `scaled`: only this gateway, with ever more models and keys.
    """

    name: str
    title: str
    figures: tuple[str, ...]
    measure: Callable[[Running, float], Measured]
    fresh: bool = False
    beside_direct: bool = False
    scaled: bool = False


def _fire(running: Running, mode: str, **load: float) -> subprocess.Popen[str]:
    options = [text for name, value in load.items() for text in (f"--{name}", str(value))]
    key = ["--key", running.key] if running.key else []
    command = [sys.executable, "-m", "bench.fire", mode, "--port", str(running.port), *options, *key]
    fire = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    PROCESSORS.keep_to(fire.pid, PROCESSORS.others)
    return fire


def _ask(running: Running, **load: float) -> tuple[Report, float]:
    """What `fire` reports, and the seconds of processor time that it cost the candidate."""
    before = running.cpu()
    with _fire(running, "ask", **load) as fire:
        try:
            said, _ = fire.communicate(timeout=_FIRE_LIMIT)
        finally:
            fire.kill()
    return _report(fire, said), running.cpu() - before


def _report(fire: subprocess.Popen[str], said: str) -> Report:
    if fire.returncode:
        raise RuntimeError(f"the load generator failed with code {fire.returncode}")
    report: Report = json.loads(said)
    return report


def _measured(report: Report, **figures: float) -> Measured:
    return Measured(figures, int(report["requests"]), int(report["failures"]), int(report["short"]))


def unary(running: Running, share: float) -> Measured:
    report, used = _ask(running, connections=32, seconds=3 * share)
    rate = report["requests"] / report["seconds"]
    return _measured(report, us_per_request=used / max(1, report["requests"]) * 1e6, requests_per_second=rate)


def _paced(streams: int, pace: int) -> Callable[[Running, float], Measured]:
    """One stream on each connection, over the whole time."""

    def measure(running: Running, share: float) -> Measured:
        return _per_chunk(running, connections=streams, chunks=round(4000 * share / pace), pace=pace)

    return measure


def full_speed(running: Running, share: float) -> Measured:
    return _per_chunk(running, connections=16, chunks=round(4000 * share))


def _per_chunk(running: Running, **load: float) -> Measured:
    report, used = _ask(running, **load)
    rate = report["events"] / report["seconds"]
    return _measured(report, us_per_chunk=used / max(1, report["events"]) * 1e6, chunks_per_second=rate)


def _first_byte(streams: int, chunks: int, pace: int) -> Callable[[Running, float], Measured]:
    """Streams of some chunks, one after the other on each connection."""

    def measure(running: Running, share: float) -> Measured:
        length = chunks * pace / 1000
        report, _ = _ask(running, connections=streams, chunks=chunks, pace=pace, seconds=4 * share, spread=length)
        return _measured(report, p50_us=report["first_byte_p50_us"], p99_us=report["first_byte_p99_us"])

    return measure


def upload(running: Running, share: float) -> Measured:
    report, used = _ask(running, connections=2, requests=max(6, round(20 * share)), size=20_000_000)
    return _measured(report, ms_per_body=used / max(1, report["requests"]) * 1e3)


def idle(running: Running, share: float) -> Measured:
    """Streams that are open and get a chunk a minute each."""
    before = running.memory()
    with _fire(running, "hold", connections=IDLE_STREAMS, requests=IDLE_STREAMS, chunks=1000, pace=60_000) as fire:
        assert fire.stdout
        try:
            opened = int(json.loads(fire.stdout.readline() or '{"open": 0}')["open"])
            memory, used, begun = running.memory() - before, running.cpu(), time.perf_counter()
            time.sleep(10 * share)
            seconds, used = time.perf_counter() - begun, running.cpu() - used
            said, _ = fire.communicate(timeout=_FIRE_LIMIT)
        finally:
            fire.kill()
    report = {**_report(fire, said), "requests": IDLE_STREAMS, "failures": IDLE_STREAMS - opened}
    return _measured(report, kb_per_stream=memory / max(1, opened) / 1024, ms_per_second=used / seconds * 1e3)


_REQUEST, _CHUNK, _FIRST = ("us_per_request",), ("us_per_chunk",), ("p50_us", "p99_us")

SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("unary", "unary requests on 32 connections", _REQUEST, unary),
        Scenario("stream100", "100 streams, a chunk every 20 ms", _CHUNK, _paced(100, 20)),
        Scenario("stream200", "200 streams, a chunk every 10 ms", _CHUNK, _paced(200, 10)),
        Scenario("fullspeed", "16 streams at full speed", _CHUNK, full_speed),
        Scenario("first1", "added to the first byte, 1 stream", _FIRST, _first_byte(1, 2, 5), beside_direct=True),
        Scenario("first50", "added to the first byte, 50 streams", _FIRST, _first_byte(50, 8, 50), beside_direct=True),
        Scenario(
            "first200", "added to the first byte, 200 streams", _FIRST, _first_byte(200, 8, 50), beside_direct=True
        ),
        Scenario("upload", "bodies of 20 MB", ("ms_per_body",), upload),
        Scenario("idle", "2,000 idle streams", ("kb_per_stream", "ms_per_second"), idle, fresh=True),
        Scenario("scale", "unary requests, by models and keys", _REQUEST, unary, scaled=True),
    )
}

UNITS: Mapping[str, str] = {
    "us_per_request": "CPU µs a request",
    "us_per_chunk": "CPU µs a chunk",
    "p50_us": "µs, median",
    "p99_us": "µs, 99 %",
    "ms_per_body": "CPU ms a body",
    "kb_per_stream": "KB a stream",
    "ms_per_second": "CPU ms a second",
}
