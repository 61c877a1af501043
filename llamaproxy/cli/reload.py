"""`llamaproxy reload`: have the running gateway read its configuration again.

What it makes of it is said by the gateway; one that cannot be used changes nothing.
"""

import argparse
import sys

from llamaproxy.cli import EXIT_CONFIGURATION, EXIT_FAILED, client, complain
from llamaproxy.errors import ConfigError

_TIMEOUT = 30.0
"""Seconds: models are looked for on disks that may have to wake up."""


def run(arguments: argparse.Namespace) -> int:
    """Names of models that are added, removed or changed on stdout."""
    try:
        changes = client.post(arguments, "/api/reload", {}, _TIMEOUT)
    except ConfigError as error:
        complain(error.message)
        return EXIT_CONFIGURATION
    except client.Refused as error:
        complain(str(error))
        return EXIT_CONFIGURATION if error.code == ConfigError.code else EXIT_FAILED
    except client.NoAnswer as error:
        complain(str(error))
        return EXIT_FAILED
    for what in ("added", "removed", "changed"):
        for name in changes[what]:
            sys.stdout.write(f"{what} {name}\n")
    complain("reloaded")
    return 0
