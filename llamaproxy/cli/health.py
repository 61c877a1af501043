"""`llamaproxy health`: does the gateway live? For a container's HEALTHCHECK, which knows 0 and 1 only."""

import argparse

from llamaproxy.cli import EXIT_FAILED, client, complain
from llamaproxy.cli.table import harmless
from llamaproxy.errors import ConfigError

_TIMEOUT = 4.0
"""Seconds: under the 5 s that container engines are commonly told to wait."""


def run(arguments: argparse.Namespace) -> int:
    """0 where it answers, 1 in every other case; one line. `/health` needs no key."""
    try:
        told = client.get(arguments, "/health", _TIMEOUT)
    except (ConfigError, client.Refused, client.NoAnswer) as error:
        complain(str(error))
        return EXIT_FAILED
    print(harmless(str(told.get("status", "ok") if isinstance(told, dict) else "ok")))
    return 0
