"""`llamaproxy status`, `ps` and `models`: what the running gateway does.

Tables for people on stdout, or with `--json` what the gateway says, as it says it.
"""

import argparse
import time
from typing import Any

from llamaproxy.cli import client, terminal
from llamaproxy.cli.table import duration, harmless, size, table

_TIMEOUT = 10.0
_INTERVAL = 2.0
"""Seconds between two looks with --watch."""
_HEAD = (
    *("NAME", "STATE", "PID", "PORT", "UP", "IN FLIGHT", "QUEUED", "LATENCY", "MEMORY", "BREAKER", "PINNED"),
    *("MODE", "VERSION", "LOG"),
)


def run(arguments: argparse.Namespace) -> int:
    """0 where the gateway answers, else what EXIT_CODES say."""
    return client.talk(lambda: _show(arguments))


def _show(arguments: argparse.Namespace) -> int:
    while True:
        told = _ask(arguments)
        if arguments.watch:
            terminal.clear()
        if arguments.json:
            terminal.print_json(told, None if arguments.watch else 2)
        else:
            print(_text(told), flush=True)
        if not arguments.watch:
            return 0
        time.sleep(_INTERVAL)


def _ask(arguments: argparse.Namespace) -> dict[str, Any]:
    models: list[dict[str, Any]] = client.get(arguments, "/api/models", _TIMEOUT)["models"]
    if arguments.verb == "ps":
        models = [model for model in models if model["state"] != "stopped"]
    if arguments.verb != "status":
        return {"models": models}
    health = client.get(arguments, "/api/health", _TIMEOUT)
    totals = client.get(arguments, "/api/requests?limit=1", _TIMEOUT)["totals"]
    return {"health": health, "totals": totals, "models": models}


def _text(told: dict[str, Any]) -> str:
    lines = [table(_HEAD, map(_row, told["models"]), terminal.width(), terminal.is_coloured())]
    if health := told.get("health"):
        lines.insert(0, _summary(health, told["totals"]))
    return "\n\n".join(lines)


def _summary(health: dict[str, Any], totals: dict[str, int]) -> str:
    """What there is to say of the gateway itself; faults, if there are any."""
    counts = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in totals.items())
    file = health["config"]["file"] or "no file, defaults and environment only"
    faults = [fault for fault in (health["config"]["error"], health["requests"]["error"]) if fault]
    lines = [f"llamaproxy {health['version']}: {health['status']}", f"configuration: {file}", f"requests: {counts}"]
    return "\n".join(harmless(line) for line in (*lines, *(f"fault: {fault}" for fault in faults)))


def _row(model: dict[str, Any]) -> tuple[object, ...]:
    footprint = model["footprint"]
    state = f"{model['state']} ({model['leaving']})" if model["leaving"] else model["state"]
    memory = footprint and size(footprint["ram"] + sum(footprint["devices"]))
    latency = model["latency_ms"]
    return (
        *(model["name"], state, model["pid"], model["port"], duration(model["uptime"])),
        *(model["in_flight"], model["queued"], latency and f"{latency:.0f} ms", memory),
        *(model["breaker"]["state"], "yes" if model["pinned"] else None),
        *(model["kind"], model["version"], model["log"]),
    )
