"""`llamaproxy keys`: API keys.

A key is shown once and stored as a hash, so nobody who reads the configuration can use it.
"""

import argparse
import base64
import hashlib
import secrets
import sys

_RANDOM_BYTES = 20


def run(arguments: argparse.Namespace) -> int:
    """`create`: the key on stdout, the configuration for it on stderr."""
    secret = "lp-" + base64.b32encode(secrets.token_bytes(_RANDOM_BYTES)).decode().lower()
    print(secret)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    print(
        f'# The key is shown this once. Add to the configuration file:\n[keys.{arguments.name}]\nsha256 = "{digest}"',
        file=sys.stderr,
    )
    return 0
