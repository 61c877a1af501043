"""`llamaproxy bench`: a load test of any OpenAI-compatible server, or of two beside each other.

Owns what is said about it: a table, JSON or an SVG of what was measured, also where it was interrupted, and progress
on stderr. How it is measured is `loadtest`'s.
"""

import argparse
import asyncio
import contextlib
import secrets
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any

from llamaproxy.backends.orphans import UNIX_SOCKETS
from llamaproxy.cli import EXIT_FAILED, EXIT_INTERRUPTED, client, complain, terminal
from llamaproxy.cli.table import harmless, table
from llamaproxy.errors import ConfigError
from llamaproxy.loadtest import chart
from llamaproxy.loadtest.answer import Answer
from llamaproxy.loadtest.figures import Spread
from llamaproxy.loadtest.plan import MOST_STEPS, Plan
from llamaproxy.loadtest.sweep import Step, Sweep
from llamaproxy.loadtest.target import Asker, Target
from llamaproxy.tasks import spawn

_LONGEST_KEY = 4096
_BUSY = 0.8
"""Share of a core from which on the load test measures itself."""
_NAMED = 20
"""Models that are listed where one must be chosen."""
_EVERY = {True: 0.2, False: 10.0}
"""Seconds between two words about the progress, on a terminal and elsewhere."""
_HEAD = (
    *("CLIENTS", "PROMPT", "OUTPUT", "REQUESTS", "FAILED", "TOK/S", "TOK/S EACH", "REQ/S", "TTFT P50", "TTFT P95"),
    *("ITL P50", "ITL P95", "ANSWER P50", "ANSWER P95"),
)


def run(arguments: argparse.Namespace) -> int:
    """0 where every request was answered."""
    return client.talk(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    plan = _plan(arguments)
    targets = _loop(_targets(arguments, plan.timeout))
    sweep = Sweep(plan, targets)
    try:
        _loop(_measure(sweep))
    except KeyboardInterrupt:
        _tell(arguments, sweep.steps, targets)
        complain("stopped; the last step is not whole")
        return EXIT_INTERRUPTED
    _tell(arguments, sweep.steps, targets)
    return EXIT_FAILED if any(step.figures.failed or not step.figures.requests for step in sweep.steps) else 0


def _loop(main: Coroutine[Any, Any, Any]) -> Any:
    if not UNIX_SOCKETS:
        return asyncio.run(main)
    import uvloop

    return uvloop.run(main)


def _plan(arguments: argparse.Namespace) -> Plan:
    plan = Plan(
        clients=arguments.concurrency,
        prompt_tokens=arguments.prompt_tokens,
        output_tokens=arguments.output_tokens,
        requests=arguments.requests,
        seconds=arguments.seconds,
        timeout=arguments.timeout,
        warmup=arguments.warmup,
        stream=not arguments.no_stream,
        may_stop=arguments.may_stop,
        seed=secrets.token_hex(4),
    )
    if (steps := len(plan.levels())) > MOST_STEPS:
        raise ConfigError(f"{steps} steps are too many: at most {MOST_STEPS}")
    return plan


async def _targets(arguments: argparse.Namespace, timeout: float) -> list[Target]:
    """One, or two. A key goes to the address that it was given for, and no other."""
    key = _key(arguments.key_file) if arguments.key_file else client.key()
    targets = [Target(_base(client.address(arguments)), arguments.model or "", key)]
    if arguments.against:
        model = arguments.against_model or arguments.model or ""
        key = _key(arguments.against_key_file) if arguments.against_key_file else None
        targets.append(Target(_base(arguments.against), model, key))
    return [target if target.model else await _with_model(target, timeout) for target in targets]


def _base(url: str) -> str:
    """Raises Refused."""
    return client.check_address(url).removesuffix("/v1")


def _key(path: Path) -> str:
    """Raises ConfigError."""
    try:
        with path.open("rb") as file:
            key = file.read(_LONGEST_KEY + 1).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or 'no key in ASCII'}") from error
    if not key or len(key) > _LONGEST_KEY or not key.isprintable() or " " in key:
        raise ConfigError(f"{path}: not one key on one line")
    return key


async def _with_model(target: Target, timeout: float) -> Target:
    """The only one there is. Raises Refused or NoAnswer."""
    async with Asker(target, timeout, time.monotonic) as asker:
        names, answer = await asker.models()
    if answer.status != 200:
        raise _no(target, answer)
    if len(names) != 1:
        shown = ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
        raise client.Refused(f"{target.url} has {len(names)} models, name one with --model: {shown or '-'}", "", 400)
    return Target(target.url, names[0], target.key)


def _no(target: Target, answer: Answer) -> client.Refused | client.NoAnswer:
    """Why nothing is measured."""
    said = harmless(f"{target.url}: {answer.fault}")
    if answer.late:
        return client.TooLate(said)
    return client.NoAnswer(said) if answer.status is None else client.Refused(said, "", answer.status)


async def _measure(sweep: Sweep) -> None:
    async with _progress(sweep):
        if failed := await sweep.warm_up():
            raise _no(*failed)
        await sweep.run()


@contextlib.asynccontextmanager
async def _progress(sweep: Sweep) -> AsyncIterator[None]:
    ticking = spawn(_tick(sweep), name="progress")
    try:
        yield
    finally:
        ticking.cancel()
        if sys.stderr.isatty():
            terminal.rewrite()


async def _tick(sweep: Sweep) -> None:
    while True:
        await asyncio.sleep(_EVERY[sys.stderr.isatty()])
        if sys.stderr.isatty():
            terminal.rewrite(harmless(sweep.progress))
        else:
            complain(sweep.progress)


def _tell(arguments: argparse.Namespace, steps: Sequence[Step], targets: Sequence[Target]) -> None:
    if arguments.json:
        terminal.print_json({"steps": [_described(step) for step in steps]})
    elif steps:
        print("\n\n".join(_section(target, steps, targets[0]) for target in targets))
    for line in dict.fromkeys(line for step in steps for line in _remarks(step)):
        complain(line)
    if arguments.svg and steps:
        _draw(arguments.svg, steps)


def _draw(path: Path, steps: Sequence[Step]) -> None:
    note = f"llamaproxy bench, {time.strftime('%Y-%m-%d')}, model {steps[0].target.model}"
    try:
        path.write_text(chart.draw(steps, note), "utf-8")
    except OSError as error:
        raise client.Refused(f"{path}: {error.strerror}", "", 500) from error
    complain(f"drawn: {path}")


def _described(step: Step) -> dict[str, Any]:
    level = step.level
    return {
        "url": step.target.url,
        "model": step.target.model,
        "clients": level.clients,
        "prompt_tokens_asked": level.prompt_tokens,
        "output_tokens_asked": level.output_tokens,
        "stopped": step.stopped,
        "client_cpu": round(step.busy, 3),
        **step.figures.described(),
    }


def _section(target: Target, steps: Sequence[Step], first: Target) -> str:
    """One target's table; where there are two, the second one's says how many times the first one's speed it has."""
    base = {step.level: step.figures.tokens_per_second for step in steps if step.target is first}
    head = _HEAD if target is first else (*_HEAD[:6], "x FIRST", *_HEAD[6:])
    rows = []
    for step in steps:
        if step.target is target:
            row = _row(step)
            ratio = base.get(step.level) and f"{step.figures.tokens_per_second / base[step.level]:.2f}"
            rows.append(row if target is first else (*row[:6], ratio, *row[6:]))
    title = harmless(f"{target.url}, model {target.model}")
    return f"{title}\n{table(head, rows, terminal.width(), terminal.is_coloured())}"


def _row(step: Step) -> tuple[object, ...]:
    """Counts that the server did not tell have a tilde."""
    level, figures = step.level, step.figures
    about = "" if figures.told else "~"
    prompt = f"{figures.prompt_tokens:.0f}" if figures.prompt_tokens is not None else f"~{level.prompt_tokens}"
    each = figures.each and about + chart.number(figures.each)
    return (
        *(level.clients, prompt, level.output_tokens, figures.requests, figures.failed),
        *(about + chart.number(figures.tokens_per_second), each, chart.number(figures.requests_per_second)),
        *(*_ms(figures.first), *_ms(figures.gap), *_ms(figures.whole)),
    )


def _ms(spread: Spread | None) -> tuple[str | None, str | None]:
    if spread is None:
        return None, None
    return f"{chart.number(1000 * spread.p50)} ms", f"{chart.number(1000 * spread.p95)} ms"


def _remarks(step: Step) -> list[str]:
    """What to know when reading the figures."""
    where = f"{step.target.url}, {chart.clients(step.level.clients)}"
    lines = [f"{where}: {count} requests failed: {fault}" for fault, count in step.figures.faults.items()]
    if not step.figures.told:
        lines.append(f"{step.target.url} does not count all its tokens: with ~ they are the events that came")
    if step.busy > _BUSY:
        lines.append(f"{where}: asking took {100 * step.busy:.0f} % of a core, the figures may be those of the asking")
    return lines
