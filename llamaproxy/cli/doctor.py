"""`llamaproxy doctor`: what would keep the gateway from working, and what to do about it.

Owns the order and the words around it; what is looked at stands in `checks`.
"""

import argparse
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from llamaproxy import configfile, document
from llamaproxy.cli import EXIT_FAILED, checks, client, terminal
from llamaproxy.cli.checks import Finding, Level
from llamaproxy.cli.table import harmless, table
from llamaproxy.config import Config
from llamaproxy.errors import ConfigError
from llamaproxy.server.gateway import check

_TIMEOUT = 3.0
_HEAD = ("LEVEL", "CHECK", "FOUND")
_LEAST = 20
"""Columns of a message, however narrow the terminal is."""


def run(arguments: argparse.Namespace) -> int:
    """0 where nothing is broken, else 1."""
    findings = list(examine(arguments))
    if arguments.json:
        healthy = not any(finding.level is Level.BROKEN for finding in findings)
        terminal.print_json({"ok": healthy, "findings": [asdict(finding) for finding in findings]})
    else:
        print(_text(findings))
    return EXIT_FAILED if any(finding.level is Level.BROKEN for finding in findings) else 0


def examine(arguments: argparse.Namespace) -> Iterator[Finding]:
    """Without a configuration that can be used, only what does not depend on it."""
    file, config, faults = _configuration(arguments.config)
    yield from faults
    if config is not None:
        yield from checks.engine_found(config)
        yield from checks.models(config)
        yield from checks.ports(config, lambda: _is_gateway(arguments))
        yield from checks.gpus(config)
        yield from checks.database(config)
        yield from checks.folders(config, file)
    yield from checks.descriptors()
    yield from checks.clock(config or Config())


def _configuration(explicit: Path | None) -> tuple[Path | None, Config | None, list[Finding]]:
    try:
        file = document.find_file(explicit)
        config = configfile.load(file)
        check(config)
    except ConfigError as error:
        remedy = "correct it; `llamaproxy check-config` reads it again"
        return None, None, [Finding("config", Level.BROKEN, line, remedy) for line in error.message.splitlines()]
    told = str(file) if file else "no file, defaults and environment only"
    return file, config, [Finding("config", Level.OK, told)]


def _is_gateway(arguments: argparse.Namespace) -> bool:
    """Whether what listens at the configured address is one of ours."""
    try:
        told = client.get(argparse.Namespace(config=arguments.config, url=None), "/health", _TIMEOUT)
    except (ConfigError, client.NoAnswer, client.Refused):
        return False
    return isinstance(told, dict) and "version" in told


def _rows(findings: list[Finding], width: int | None) -> Iterator[tuple[str, str, str]]:
    """On a terminal a message goes on below its beginning: nothing of it is left out, and no path is broken."""
    names = max(map(len, (_HEAD[1], *(finding.check for finding in findings))))
    beside = max(len(level.value) for level in Level) + names + 4
    room = textwrap.TextWrapper(max(_LEAST, (width or 0) - beside), break_long_words=False, break_on_hyphens=False)
    for finding in findings:
        first, *further = room.wrap(finding.message) if width else [finding.message]
        yield finding.level.value, finding.check, first
        yield from ((" ", " ", line) for line in further)


def _text(findings: list[Finding]) -> str:
    """The findings, and below them what to do."""
    lines = [table(_HEAD, _rows(findings, terminal.width()), None, terminal.is_coloured())]
    todo = [(f"{one.check}: {one.message}", f"  {one.remedy}") for one in findings if one.remedy]
    return "\n\n".join([*lines, *("\n".join(map(harmless, pair)) for pair in todo)])
