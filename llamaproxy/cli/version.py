"""`llamaproxy version`."""

import argparse

from llamaproxy import __version__


def run(arguments: argparse.Namespace) -> int:
    print(f"llamaproxy {__version__}")
    return 0
