"""`llamaproxy keys`: API keys.

A key is shown once and stored as a hash, so nobody who reads the configuration can use it.
"""

import argparse
import base64
import hashlib
import re
import secrets
import sys

from llamaproxy.cli import EXIT_USAGE, complain
from llamaproxy.values import check_name

_RANDOM_BYTES = 20
_BARE = re.compile(r"[A-Za-z0-9_-]+")
"""Keys that TOML takes without quotes."""


def run(arguments: argparse.Namespace) -> int:
    """`create`: the key on stdout, the configuration for it on stderr."""
    try:
        name = check_name(arguments.name)
    except ValueError as error:
        complain(f"{arguments.name!r:.80}: {error}")
        return EXIT_USAGE
    table = name if _BARE.fullmatch(name) else f'"{name}"'
    secret = "lp-" + base64.b32encode(secrets.token_bytes(_RANDOM_BYTES)).decode().lower()
    print(secret)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    print(
        f'# The key is shown this once. Add to the configuration file:\n[keys.{table}]\nsha256 = "{digest}"',
        file=sys.stderr,
    )
    return 0
