"""`llamaproxy completion`: the words of the command line, in a shell's own language."""

import argparse

import shtab

from llamaproxy.cli.verbs import parser


def run(arguments: argparse.Namespace) -> int:
    """The script on stdout: it knows the verbs of the release that printed it."""
    print(shtab.complete(parser(), arguments.shell))
    return 0
