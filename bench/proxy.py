"""What the data plane costs, beside others in the same run: `python -m bench.proxy [SCENARIO ...] [--quick]`.

Candidates take turns under the same load, in every round in another order, before an engine that costs next to nothing.
Figures are processor time and memory of the candidate's own processes, and what it adds to the first byte; never the
engine's, nor the load generator's. Owns the order of the turns, the time they may take together, and what is written.
"""

import argparse
import contextlib
import json
import os
import platform
import resource
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from bench import chart, rivals
from bench.figures import DIRECT, Sample, Summary, added, complaints, summarise, table
from bench.quiet import Calibration, calibrate
from bench.rivals import Candidate, Running, Unstartable
from bench.turns import SCENARIOS, UNITS, Scenario
from llamaproxy.backends.ports import free_port

QUICK_ROUNDS, FULL_ROUNDS = 2, 5
QUICK_SHARE = 0.3
_SCALES = (1, 100, 1000)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parse(argv)
    # What was started is ended also where this is told to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    _allow_many_files()
    # The calibration loop has to feel what the candidates feel, and they wait for each other.
    rivals.PROCESSORS.keep_to(os.getpid(), rivals.PROCESSORS.candidate)
    samples = measure(arguments)
    _publish(samples, arguments)


def measure(arguments: argparse.Namespace) -> list[Sample]:
    """All turns of all rounds that fit the time."""
    end = time.monotonic() + arguments.limit
    wanted = [SCENARIOS[name] for name in arguments.scenarios or SCENARIOS]
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else FULL_ROUNDS)
    share = QUICK_SHARE if arguments.quick else 1.0
    samples: list[Sample] = []
    with contextlib.ExitStack() as stack:
        port = free_port()
        stack.enter_context(rivals.engine("127.0.0.1", port))
        field = Field(_candidates(port, arguments.peer, arguments.compiled), stack)
        for number, scenario in ((number, scenario) for number in range(rounds) for scenario in wanted):
            for candidate in field.of(scenario, number):
                if time.monotonic() > end:
                    print(f"after {arguments.limit:.0f} s: the rest is left out", file=sys.stderr)
                    return samples
                if sample := field.turn(scenario, candidate, number, share):
                    samples.append(sample)
    return samples


class Field:
    """The candidates, which are started once and kept; those that cannot be are left out, with a word about it."""

    def __init__(self, candidates: Sequence[Candidate], stack: contextlib.ExitStack) -> None:
        self._candidates = list(candidates)
        self._scaled = [rivals.llamaproxy(_scale_name(count), count, count) for count in _SCALES]
        self._stack = stack
        self._running: dict[str, Running] = {}
        self._unfit: set[str] = set()

    def of(self, scenario: Scenario, number: int) -> list[Candidate]:
        """Who takes part, in the order of this round."""
        all_ = self._scaled if scenario.scaled else self._candidates
        fit = [one for one in all_ if one.name != DIRECT or scenario.beside_direct]
        turn = number % len(fit)
        return [one for one in fit[turn:] + fit[:turn] if one.name not in self._unfit]

    def turn(self, scenario: Scenario, candidate: Candidate, number: int, share: float) -> Sample | None:
        try:
            with self._started(candidate, scenario.fresh) as running:
                print(f"round {number + 1}: {scenario.name}: {candidate.name}", file=sys.stderr)
                before = calibrate()
                measured = scenario.measure(running, share)
                calibration = Calibration(before, calibrate())
        except Unstartable as error:
            print(f"{candidate.name} is left out: {error}", file=sys.stderr)
            self._unfit.add(candidate.name)
            return None
        return Sample(
            scenario.name,
            candidate.name,
            number + 1,
            measured.figures,
            calibration,
            measured.requests,
            measured.failures,
            measured.short,
        )

    @contextlib.contextmanager
    def _started(self, candidate: Candidate, fresh: bool) -> Iterator[Running]:
        if fresh:
            with candidate.running() as running:
                yield running
            return
        if candidate.name not in self._running:
            self._running[candidate.name] = self._stack.enter_context(candidate.running())
        yield self._running[candidate.name]


def _scale_name(count: int) -> str:
    return f"llamaproxy, {count:,} of each"


def _candidates(port: int, peers: Sequence[tuple[str, str]], python: str | None) -> list[Candidate]:
    """nginx first: the others are told by it."""
    nginx = rivals.nginx()
    if nginx is None:
        print("nginx is not installed, and left out: there will be no ratios", file=sys.stderr)
    others = [rivals.peer(name, command, port) for name, command in peers]
    ours = [rivals.llamaproxy(), *([rivals.compiled(python)] if python else [])]
    return [*([nginx] if nginx else []), *ours, *others, rivals.direct(port)]


def _publish(samples: Sequence[Sample], arguments: argparse.Namespace) -> None:
    machine = about()
    results = _results(samples)
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    for scenario, figures in results:
        named = [(UNITS[name], summaries) for name, summaries in figures]
        print("", *table(f"{scenario.name}: {scenario.title}", named), sep="\n")
    print("", *complaints(samples), sep="\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(_document(machine, results, samples), indent=1) + "\n")
    if arguments.svg:
        panels = [(f"{scenario.title}: {UNITS[name]}", rows) for scenario, ((name, rows), *_) in results]
        arguments.svg.write_text(chart.draw(panels, f"{machine['machine']}; least of the rounds, median in brackets"))


Results = Sequence[tuple[Scenario, Sequence[tuple[str, Sequence[Summary]]]]]
"""Each scenario with its figures by name, and one summary of each for every candidate."""


def _results(samples: Sequence[Sample]) -> Results:
    turns = [sample.calibration for sample in samples]
    results = []
    for name in dict.fromkeys(sample.scenario for sample in samples):
        scenario = SCENARIOS[name]
        own = [sample for sample in samples if sample.scenario == name]
        own = added(own) if scenario.beside_direct else own
        if own:
            results.append((scenario, [(figure, summarise(own, figure, turns)) for figure in scenario.figures]))
    return results


def _document(machine: Mapping[str, str], results: Results, samples: Sequence[Sample]) -> dict[str, object]:
    summaries = {
        scenario.name: {
            one.candidate: {
                figure: {"min": row.least, "median": row.median, "kept": row.kept, "of": row.of}
                for figure, rows in figures
                for row in rows
                if row.candidate == one.candidate
            }
            for one in figures[0][1]
        }
        for scenario, figures in results
    }
    turns = [
        {
            "scenario": one.scenario,
            "candidate": one.candidate,
            "round": one.round,
            **one.figures,
            "requests": one.requests,
            "failures": one.failures,
            "short": one.short,
            "calibration_ms": round(one.calibration.slowest * 1e3, 3),
        }
        for one in samples
    ]
    return {"about": machine, "summaries": summaries, "turns": turns}


def about() -> dict[str, str]:
    """What ran where."""
    pinned = "candidates pinned" if rivals.PROCESSORS.candidate else "nothing pinned"
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, {pinned}",
        "Python": platform.python_version(),
        "uvloop": version("uvloop"),
        "aiohttp": version("aiohttp"),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def _allow_many_files() -> None:
    """As far as the machine's own limit goes; what is started inherits it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.proxy", description="what the data plane costs, beside others")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="two minutes: fewer rounds, and shorter ones")
    parser.add_argument("--rounds", type=int, help=f"{FULL_ROUNDS}, or {QUICK_ROUNDS} with --quick")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds after which no turn begins (%(default)g)")
    parser.add_argument(
        "--peer",
        type=_peer,
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="another proxy; {port} is where it shall listen, {upstream} the URL of the engine",
    )
    parser.add_argument(
        "--compiled", metavar="PYTHON", help="also the compiled gateway that this one has: .venv-compiled/bin/python"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every turn, and the summaries")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw bars")
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.scenarios if name not in SCENARIOS]:
        parser.error(f"there is no scenario {unknown[0]!r}; there are {', '.join(SCENARIOS)}")
    return arguments


def _peer(text: str) -> tuple[str, str]:
    name, equals, command = text.partition("=")
    if not name or not equals or not command.strip() or name == DIRECT:
        raise argparse.ArgumentTypeError("is written NAME=COMMAND")
    return name, command


if __name__ == "__main__":
    main()
