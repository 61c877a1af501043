"""`llamaproxy reload`: have the running gateway read its configuration again.

What it makes of it is said by the gateway; one that cannot be used changes nothing.
"""

import argparse
import sys

from llamaproxy.cli import client, complain

_TIMEOUT = 30.0
"""Seconds: models are looked for on disks that may have to wake up."""


def run(arguments: argparse.Namespace) -> int:
    """Names of models that are added, removed or changed on stdout."""
    return client.talk(lambda: _reload(arguments))


def _reload(arguments: argparse.Namespace) -> int:
    changes = client.post(arguments, "/api/reload", {}, _TIMEOUT)
    for what in ("added", "removed", "changed"):
        for name in changes[what]:
            sys.stdout.write(f"{what} {name}\n")
    complain("reloaded")
    return 0
