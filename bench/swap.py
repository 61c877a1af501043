"""The scheduler on the real engine, beside llama-server's own router mode: `python -m bench.swap [SCENARIO ...]`.

Owns the command line and what is said about the machine. Every server starts the same llama-server on the same file,
in turns within one invocation: ratios count, and figures are for orientation.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import llamaproxy
from bench import cold_start, conversation, scenarios
from bench.report import Mark, Result, Row
from bench.scenarios import Plan
from llamaproxy.backends import engine

_FILES = 8192
"""Descriptors: a herd has one for each client, and as many again in the server."""


async def cold(plan: Plan) -> Result:
    """What the gateway adds to an engine's own start."""
    times = await asyncio.to_thread(cold_start.measure, 5 * plan.rounds, plan.engine)
    rows = [
        Row(name, {"min_ms": 1000 * min(t), "median_ms": 1000 * statistics.median(t), "max_ms": 1000 * max(t)})
        for name, t in times.items()
    ]
    added = 1000 * statistics.median(times["ready to answer"])
    return Result("cold start", rows, [Mark(f"from ready to answer: {added:.1f} ms, at most 20", added <= 20)])


SCENARIOS: Mapping[str, Callable[[Plan], Awaitable[Result]]] = {
    "cold": cold,
    "many-clients": scenarios.many_clients,
    "two-clients": scenarios.two_clients,
    "constant-load": scenarios.constant_load,
    "conversation": conversation.returning,
    "herd": scenarios.herd,
    "kills": scenarios.kills,
    "endurance": scenarios.endurance,
}


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.swap", description=__doc__.splitlines()[0])
    parser.add_argument(
        "scenario", nargs="*", choices=[[], *SCENARIOS], help="which to run; all of them if none is named"
    )
    parser.add_argument("--engine", help="a llama-server; the one on PATH if none is named")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each server")
    parser.add_argument("--max-wait", type=float, default=15.0, help="limits.max_wait under constant load, in seconds")
    parser.add_argument("--give-up", type=float, default=40.0, help="seconds after which a starved client gives up")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    return parser.parse_args(words)


def plan_of(told: argparse.Namespace) -> Plan:
    """Raises SystemExit where something is missing."""
    found = told.engine or shutil.which("llama-server")
    if not found:
        raise SystemExit("no llama-server on PATH; name one with --engine")
    if not (model := engine.bundled_model()):
        raise SystemExit("the bundled model is not installed: make run installs it")
    return Plan(str(Path(found).absolute()), model, max(1, told.rounds), told.max_wait, told.give_up)


def machine(plan: Plan) -> dict[str, str]:
    version = subprocess.run((plan.engine, "--version"), capture_output=True, text=True, check=False, timeout=30)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "llamaproxy": f"{llamaproxy.__version__}, Python {platform.python_version()}",
        "llama-server": (version.stdout + version.stderr).strip().splitlines()[0],
        "model": plan.model.name,
    }


def _allow_many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> int:
    """0 where every mark was met."""
    told = arguments()
    plan = plan_of(told)
    _allow_many_files()
    about = machine(plan)
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    results: dict[str, Result] = {}
    for name in told.scenario or SCENARIOS:
        results[name] = asyncio.run(_run(name, plan))
        print(f"\n{name}: {results[name]}", flush=True)
    if told.json:
        figures = {name: result.as_json() for name, result in results.items()}
        told.json.write_text(json.dumps({**about, "scenarios": figures}, indent=2) + "\n")
    return 0 if all(mark.met for result in results.values() for mark in result.marks) else 1


async def _run(name: str, plan: Plan) -> Result:
    return await SCENARIOS[name](plan)


if __name__ == "__main__":
    sys.exit(main())
