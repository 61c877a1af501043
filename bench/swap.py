"""The scheduler on the real engine, beside llama-server's own router mode: `python -m bench.swap [SCENARIO ...]`.

Owns the command line and what is said about the machine. Every server starts the same llama-server on the same file,
in turns within one invocation: ratios count, and figures are for orientation. One thread for each engine, unless told
otherwise: two that wait for each other lose many times what a neighbour takes.
"""

import argparse
import asyncio
import json
import shutil
import signal
import statistics
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from bench import cold_start, conversation, machine, scenarios
from bench.report import Mark, Result, Row
from bench.scenarios import Plan
from llamaproxy.backends import engine


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
    parser.add_argument("--threads", type=int, default=1, help="threads of each engine process")
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
    return Plan(
        str(Path(found).absolute()), model, max(1, told.rounds), max(1, told.threads), told.max_wait, told.give_up
    )


def main() -> int:
    """0 where every mark was met."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it, too, leaves no server behind
    told = arguments()
    plan = plan_of(told)
    machine.allow_many_files()
    about = machine.about(plan.engine, plan.model)
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
