"""`llamaproxy logs`: lines of a running gateway's log, its own and its engines', and those that are still to come.

Asks for pages and prints them, oldest line first. `--follow` asks again and again for what is new; it ends when
somebody interrupts it, nobody reads it, or the gateway does not answer any more.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

from llamaproxy.cli import client
from llamaproxy.cli.table import harmless

ALL = "all"
_TIMEOUT = 30.0
_PAGE = 1000
_INTERVAL = 0.5
"""Seconds between two looks."""

Line = dict[str, Any]


def run(arguments: argparse.Namespace) -> int:
    """0 where all was printed; what else it may be is said by `client.talk`."""
    try:
        return client.talk(lambda: _show(arguments))
    except BrokenPipeError:
        # Nobody reads any more, and the interpreter shall not find that out once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _show(arguments: argparse.Namespace) -> int:
    wanted = {"level": arguments.level, **_model(arguments)}
    lines = _newest(arguments, wanted, arguments.tail)
    _tell(arguments, lines)
    if arguments.follow:
        last = lines[-1:] or _newest(arguments, {"level": "debug"}, 1)
        _follow(arguments, wanted, last[0]["id"] if last else 0)
    return 0


def _model(arguments: argparse.Namespace) -> dict[str, str]:
    """Whose lines; `all` stands for everybody's, unless a model has this name. Raises Refused where none has."""
    name = arguments.name
    try:
        known = client.get(arguments, f"/api/models/{quote(name, safe='')}", _TIMEOUT)
    except client.Refused as error:
        if name == ALL and error.code == "model_not_found":
            return {}
        raise
    return {"model": known["name"]}


def _newest(arguments: argparse.Namespace, wanted: dict[str, str], most: int) -> list[Line]:
    """So many, oldest first."""
    lines: list[Line] = []
    before: dict[str, int] = {}
    while len(lines) < most:
        page = _ask(arguments, {**wanted, **before, "limit": min(_PAGE, most - len(lines))})
        lines += page["logs"]
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    return lines[::-1]


def _follow(arguments: argparse.Namespace, wanted: dict[str, str], after: int) -> None:
    while True:
        page = _ask(arguments, {**wanted, "after": after, "limit": _PAGE})
        _tell(arguments, page["logs"])
        after = page["next"]
        if len(page["logs"]) < _PAGE:
            time.sleep(_INTERVAL)


def _ask(arguments: argparse.Namespace, wanted: dict[str, Any]) -> Any:
    return client.get(arguments, f"/api/logs?{urlencode(wanted)}", _TIMEOUT)


def _tell(arguments: argparse.Namespace, lines: list[Line]) -> None:
    """For programs one JSON object a line."""
    for line in lines:
        print(json.dumps(line) if arguments.json else "\n    ".join(_text(line)))
    sys.stdout.flush()


def _text(line: Line) -> Iterator[str]:
    """For people. Further lines of a message are indented by who prints them."""
    seconds, at = line["timestamp"] % 1, time.localtime(line["timestamp"])
    stamp = f"{time.strftime('%Y-%m-%d %H:%M:%S', at)}.{int(seconds * 1000):03d}"
    model = f"[{line['model']}] " if line["model"] else ""
    first, *further = [*line["message"].splitlines(), *(line["context"] or "").splitlines()] or [""]
    yield harmless(f"{stamp} {line['level'].upper():<7} {line['source']}: {model}{first}")
    yield from map(harmless, further)
