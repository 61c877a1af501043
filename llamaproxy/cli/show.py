"""`llamaproxy status`, `ps` and `models`: what the running gateway does.

Tables for people on stdout, or with `--json` what the gateway says, as it says it.
"""

import argparse
from typing import Any

import orjson

from llamaproxy.cli import client
from llamaproxy.cli.table import duration, harmless, size, table

_TIMEOUT = 10.0
_HEAD = ("NAME", "STATE", "PID", "UP", "IN FLIGHT", "QUEUED", "MEMORY", "BREAKER", "PINNED")


def run(arguments: argparse.Namespace) -> int:
    """0 where the gateway answers, 69 where none does, 1 where it refuses."""
    return client.talk(lambda: _show(arguments))


def _show(arguments: argparse.Namespace) -> int:
    models: list[dict[str, Any]] = client.get(arguments, "/api/models", _TIMEOUT)["models"]
    if arguments.verb == "ps":
        models = [model for model in models if model["state"] != "stopped"]
    told: dict[str, Any] = {"models": models}
    if arguments.verb == "status":
        health = client.get(arguments, "/api/health", _TIMEOUT)
        totals = client.get(arguments, "/api/requests?limit=1", _TIMEOUT)["totals"]
        told = {"health": health, "totals": totals, **told}
    print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode() if arguments.json else _text(told))
    return 0


def _text(told: dict[str, Any]) -> str:
    lines = [table(_HEAD, map(_row, told["models"]))]
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
    return (
        model["name"],
        state,
        model["pid"],
        duration(model["uptime"]),
        model["in_flight"],
        model["queued"],
        memory,
        model["breaker"]["state"],
        "yes" if model["pinned"] else None,
    )
