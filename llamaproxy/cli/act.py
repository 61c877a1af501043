"""`llamaproxy start`, `stop`, `restart`, `pin` and `unpin`: what a running gateway shall do with its models.

It answers at once; `llamaproxy ps` shows what becomes of it. One name that fails does not keep the others from their
turn.
"""

import argparse
from typing import Any
from urllib.parse import quote

from llamaproxy.cli import EXIT_FAILED, client, complain, terminal
from llamaproxy.cli.table import harmless, table

_TIMEOUT = 30.0
_ALL = "all"
_NOT_KEPT = "until the configuration is reloaded, or the gateway restarted; `pinned = true` in the file keeps it"


def run(arguments: argparse.Namespace) -> int:
    """0 where the gateway took all of it in; the code of a refusal, or 1 where there were several sorts of them."""
    return client.talk(lambda: _act(arguments))


def _act(arguments: argparse.Namespace) -> int:
    names = _names(arguments)
    if arguments.dry_run:
        print("\n".join(f"{arguments.verb} {harmless(name)}" for name in names))
        return 0
    told: list[dict[str, Any]] = []
    codes: set[int] = set()
    for name in names:
        path = f"/api/models/{quote(name, safe='')}/{arguments.verb}"
        try:
            told.append(client.post(arguments, path, {}, _TIMEOUT))
        except client.Refused as error:
            codes.add(client.tell(error))
    _tell(arguments, told)
    return 0 if not codes else codes.pop() if len(codes) == 1 else EXIT_FAILED


def _names(arguments: argparse.Namespace) -> list[str]:
    """`all` stands for every model, unless one has this name."""
    given: list[str] = arguments.names
    if _ALL not in given:
        return given
    known = [model["name"] for model in client.get(arguments, "/api/models", _TIMEOUT)["models"]]
    return given if _ALL in known else known


def _tell(arguments: argparse.Namespace, models: list[dict[str, Any]]) -> None:
    if arguments.json:
        terminal.print_json({"models": models})
    elif models:
        rows = [(model["name"], model["state"], "yes" if model["pinned"] else None) for model in models]
        print(table(("NAME", "STATE", "PINNED"), rows, terminal.width(), terminal.is_coloured()))
    if models and arguments.verb in ("pin", "unpin"):
        complain(_NOT_KEPT)
