"""`llamaproxy pull`: a model from the Hugging Face hub, without a gateway.

Owns what is said about it: a bar on a terminal, lines elsewhere, one JSON object a line for programs. How it is
fetched is `models.pull`'s. A gateway that runs is told to look at its models again.
"""

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import psutil

from llamaproxy import configfile, document
from llamaproxy.cli import (
    EXIT_CONFIGURATION,
    EXIT_CONFLICT,
    EXIT_DENIED,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NOT_FOUND,
    EXIT_TIMEOUT,
    EXIT_USAGE,
    client,
    complain,
    terminal,
)
from llamaproxy.cli.table import duration, harmless, size, table
from llamaproxy.config import Config
from llamaproxy.errors import (
    ConfigError,
    Conflict,
    GatewayError,
    HubBusy,
    HubDenied,
    InvalidRequest,
    RepositoryNotFound,
)
from llamaproxy.models import offer, repository
from llamaproxy.models.fit import Room
from llamaproxy.models.hub import Hub, access
from llamaproxy.models.offer import Offer
from llamaproxy.models.pull import Progress, Pull
from llamaproxy.models.repository import Repository, Selection
from llamaproxy.tasks import spawn
from llamaproxy.telemetry import gpu

_SCHEMA = 1
_BAR = 20
_EVERY = {True: 0.2, False: 5.0}
"""Seconds between two words about the progress, on a terminal and elsewhere."""
_RELOAD_TIMEOUT = 30.0
_CODES: tuple[tuple[type[GatewayError], int], ...] = (
    (Conflict, EXIT_CONFLICT),
    (InvalidRequest, EXIT_USAGE),
    (RepositoryNotFound, EXIT_NOT_FOUND),
    (HubDenied, EXIT_DENIED),
    (HubBusy, EXIT_TIMEOUT),
    (ConfigError, EXIT_CONFIGURATION),
)


def run(arguments: argparse.Namespace) -> int:
    """0 once the model is in its place; the names of its files on stdout."""
    logging.basicConfig(level=logging.INFO, format="llamaproxy: %(message)s", stream=sys.stderr)
    try:
        return asyncio.run(_run(arguments))
    except KeyboardInterrupt:
        complain("stopped; the same command goes on where this one was")
        return EXIT_INTERRUPTED
    except GatewayError as error:
        complain("\n".join(map(harmless, error.message.splitlines())))
        return next((code for kind, code in _CODES if isinstance(error, kind)), EXIT_FAILED)


async def _run(arguments: argparse.Namespace) -> int:
    name, _, wanted = arguments.reference.partition(":")
    repository.check_repository(name)
    if arguments.name is not None:
        repository.check_model_name(arguments.name)
    config = configfile.load(document.find_file(arguments.config))
    async with Hub(access()) as hub:
        found = await hub.repository(name, arguments.revision)
        if arguments.list:
            _list(arguments, found, await offer.offers(hub, found, _room(config)))
            return 0
        selection = repository.choose(found, wanted or None, arguments.name, not arguments.no_mmproj)
        pull = Pull(hub, selection, _directory(arguments, config))
        if arguments.dry_run:
            return _tell_plan(arguments, pull)
        await _show(arguments, pull)
    _tell_end(arguments, pull)
    await asyncio.to_thread(_tell_gateway, arguments)
    return 0


def _directory(arguments: argparse.Namespace, config: Config) -> Path:
    """Raises ConfigError where nobody says where models are."""
    if arguments.dir is not None:
        return Path(arguments.dir)
    if config.catalog.models_dir is None:
        raise ConfigError("catalog.models_dir is not set; --dir names a folder for models")
    return Path(config.catalog.models_dir)


def _room(config: Config) -> Room:
    """What models may take: the budgets, else all there is."""
    vram = sum(config.limits.vram_budgets) or sum(
        each.memory_total or 0 for each in (*_asked(gpu.nvidia), *_asked(gpu.amd))
    )
    return Room(config.limits.memory_budget or psutil.virtual_memory().total, vram)


def _asked(look: Callable[[], tuple[gpu.Gpu, ...]]) -> tuple[gpu.Gpu, ...]:
    try:
        return look()
    except gpu.NoGpu:
        return ()


def _list(arguments: argparse.Namespace, found: Repository, offered: list[Offer]) -> None:
    projectors = [{"path": file.path, "size": file.size} for file in found.projectors]
    if arguments.json:
        shown = [
            {
                "quant": each.quantisation.name,
                "size": each.quantisation.size,
                "files": [file.path for file in each.quantisation.files],
                "fit": asdict(each.fit),
            }
            for each in offered
        ]
        _say(repo=found.name, commit=found.commit, quantisations=shown, projectors=projectors, problems=found.problems)
        return
    rows = [
        (
            one.quantisation.name,
            size(one.quantisation.size),
            len(one.quantisation.files),
            one.fit.fits.value,
            size(one.fit.needed),
            size(one.fit.needed_small),
        )
        for one in offered
    ]
    print(table(("QUANT", "SIZE", "FILES", "FITS", "MEMORY", "WITH 4K CONTEXT"), rows, terminal.width()))
    if offered:
        context = offered[0].fit.context
        told = f"with its whole context of {context} tokens" if context else "without its context, which is not known"
        complain(f"this machine has {size(offered[0].fit.room)} for models; MEMORY is {told}")
    for file in found.projectors:
        complain(harmless(f"projector: {file.path}, {size(file.size)}"))
    for problem in found.problems:
        complain(harmless(f"not offered: {problem}"))


def _tell_plan(arguments: argparse.Namespace, pull: Pull) -> int:
    there = pull.is_there()
    selection = pull.selection
    if arguments.json:
        _say(**_described(pull), total=selection.size, there=there)
    else:
        print(table(("FILE", "SIZE"), [(file.path, size(file.size)) for file in selection.files], terminal.width()))
        complain(harmless(f"{size(selection.size)} into {pull.place}{', where it is already' if there else ''}"))
    return 0


async def _show(arguments: argparse.Namespace, pull: Pull) -> None:
    """Pull, and say how far it is."""
    ticking = spawn(_tick(arguments, pull), name="progress")
    try:
        await pull.run()
    finally:
        ticking.cancel()
        if _is_terminal(arguments):
            terminal.rewrite()


async def _tick(arguments: argparse.Namespace, pull: Pull) -> None:
    on_terminal = _is_terminal(arguments)
    while True:
        await asyncio.sleep(_EVERY[on_terminal])
        progress = pull.progress
        if arguments.json:
            _say(event="progress", done=progress.done, total=progress.total, speed=progress.speed())
        elif on_terminal:
            terminal.rewrite(_bar(progress))
        else:
            complain(_line(progress))


def _is_terminal(arguments: argparse.Namespace) -> bool:
    return sys.stderr.isatty() and not arguments.json


def _bar(progress: Progress) -> str:
    full = int(_BAR * progress.done / max(1, progress.total))
    return f"[{'#' * full}{' ' * (_BAR - full)}] {_line(progress)}"


def _line(progress: Progress) -> str:
    """How much, how fast, how long still."""
    speed = progress.speed()
    parts = [f"{100 * progress.done // max(1, progress.total)} %", f"{size(progress.done)} of {size(progress.total)}"]
    if speed:
        parts += [f"{size(int(speed))}/s", f"{duration((progress.total - progress.done) / speed)} left"]
    return ", ".join(parts)


def _described(pull: Pull) -> dict[str, Any]:
    selection: Selection = pull.selection
    return {
        "repo": selection.repository,
        "commit": selection.commit,
        "quant": selection.quantisation,
        "name": selection.name,
        "folder": str(pull.place),
        "files": [file.name for file in selection.files],
    }


def _tell_end(arguments: argparse.Namespace, pull: Pull) -> None:
    if arguments.json:
        _say(event="done", **_described(pull))
    else:
        print("\n".join(harmless(str(pull.place / file.name)) for file in pull.selection.files))
        complain(f"the model is called {pull.selection.name}")


def _tell_gateway(arguments: argparse.Namespace) -> None:
    """It looks by itself every two seconds, too; nobody has to be there."""
    try:
        client.post(arguments, "/api/reload", {}, _RELOAD_TIMEOUT)
    except (client.Refused, client.NoAnswer, ConfigError) as nobody:
        logging.getLogger(__name__).debug("%s", nobody)


def _say(**content: Any) -> None:
    print(orjson.dumps({"schema_version": _SCHEMA, "time": round(time.time(), 3), **content}).decode(), flush=True)
