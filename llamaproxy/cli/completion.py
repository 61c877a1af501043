"""`llamaproxy completion`: the words of the command line, in a shell's own language."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab

from llamaproxy.cli.verbs import parser

_ANYTHING = {"zsh": "( )"}
"""zsh completes no option before an argument of which it is told nothing."""


def run(arguments: argparse.Namespace) -> int:
    """The script on stdout: it knows the verbs of the release that printed it."""
    words = parser()
    for action in _actions(words):
        if action.type is Path:
            vars(action)["complete"] = shtab.DIRECTORY if action.metavar == "FOLDER" else shtab.FILE
        elif not action.option_strings and not action.choices:
            vars(action)["complete"] = _ANYTHING
    print(shtab.complete(words, arguments.shell))
    return 0


def _actions(words: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Those of every verb."""
    for action in words._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)
        else:
            yield action
