"""`llamaproxy version`."""

import argparse

from llamaproxy import __version__
from llamaproxy.cli.terminal import print_json


def run(arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_json({"version": __version__})
    else:
        print(f"llamaproxy {__version__}")
    return 0
