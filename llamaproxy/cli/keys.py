"""`llamaproxy keys`: API keys.

A key is shown once and stored as a hash, so nobody who reads the configuration or the key file can use it. A running
gateway makes and keeps keys itself; where none runs, `create` prints what to configure.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from llamaproxy.cli import EXIT_USAGE, client, complain, terminal
from llamaproxy.cli.table import table
from llamaproxy.errors import InvalidRequest

_TIMEOUT = 10.0
_RULES = ("models", "rpm", "tpm", "concurrency", "priority", "expires", "admin")
_SUMS = ("requests", "ok", "rejected", "prompt_tokens", "cached_tokens", "completion_tokens")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
"""Keys that TOML takes without quotes."""


def run(arguments: argparse.Namespace) -> int:
    """stdout is data: the key, or a table. What to do with it is said on stderr."""
    actions = {"create": _create, "list": _list, "revoke": _revoke, "usage": _usage}
    try:
        return client.talk(lambda: actions[arguments.action](arguments))
    except InvalidRequest as error:
        complain(error.message)
        return EXIT_USAGE


def _create(arguments: argparse.Namespace) -> int:
    wanted = {"name": arguments.name, **_rules(arguments)}
    if arguments.offline:
        return _print_configuration(wanted)
    try:
        made = client.post(arguments, "/api/keys", wanted, _TIMEOUT)
    except client.NoAnswer as nobody:
        return _print_configuration(wanted, f"# {nobody}\n")
    print(made["key"])
    complain(f"the key {made['name']!r} is shown this once; requests need a key from now on")
    return 0


def _rules(arguments: argparse.Namespace) -> dict[str, Any]:
    """Those that were given."""
    rules = {rule: getattr(arguments, rule) for rule in _RULES}
    if rules["models"]:
        rules["models"] = [name.strip() for name in rules["models"].split(",") if name.strip()]
    return {rule: value for rule, value in rules.items() if value is not None and value is not False}


def _print_configuration(wanted: dict[str, Any], reason: str = "") -> int:
    """The key on stdout, the lines for it on stderr."""
    from llamaproxy.server.keyring import new_key  # slow to import, and most keys are the running gateway's to make

    secret, name, key = new_key(wanted)
    quoted = name if _BARE.fullmatch(name) else f'"{name}"'
    values = key.model_dump(mode="json", include={"sha256", *_RULES}, exclude_defaults=True)
    lines = (f"{rule} = {_toml(rule, value)}" for rule, value in values.items())
    print(secret)
    head = f"{reason}# The key is shown this once. Add to the configuration file:"
    print("\n".join([head, f"[keys.{quoted}]", *lines]), file=sys.stderr)
    return 0


def _toml(rule: str, value: Any) -> str:
    """TOML spells these values as JSON does, but for dates."""
    return str(value) if rule == "expires" else json.dumps(value)


def _list(arguments: argparse.Namespace) -> int:
    keys = client.ask(arguments, "GET", "/api/keys", _TIMEOUT)["keys"]
    columns = ("name", "source", *_RULES)
    _show(arguments, {"keys": keys}, columns, ([_cell(key[column]) for column in columns] for key in keys))
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    client.ask(arguments, "DELETE", f"/api/keys/{quote(arguments.name, safe='')}", _TIMEOUT)
    complain(f"the key {arguments.name!r:.140} is refused from now on")
    return 0


def _usage(arguments: argparse.Namespace) -> int:
    sums = client.ask(arguments, "GET", "/api/usage?by=key", _TIMEOUT)["usage"]
    _show(
        arguments, {"usage": sums}, ("key", *_SUMS), ([group["key"], *(group[sum] for sum in _SUMS)] for group in sums)
    )
    return 0


def _cell(value: Any) -> object:
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else None
    return value


def _show(
    arguments: argparse.Namespace, told: Mapping[str, Any], head: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    if arguments.json:
        terminal.print_json(told)
    else:
        print(table(head, rows, terminal.width()))
