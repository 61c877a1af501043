"""Writes docs/llamaproxy.1, the manual page, from the command line's own parser: `make docs`.

It is part of the wheel, so that `man llamaproxy` finds it wherever the environment's `share/man` is looked into.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from argparse_manpage.manpage import Manpage

from llamaproxy.cli import EXIT_CODES, parser

TARGET = Path(__file__).with_name("llamaproxy.1")
MANUAL = "llamaproxy"
ENVIRONMENT = {
    "LLAMAPROXY_CONFIG": "the configuration file",
    "LLAMAPROXY_SECTION__KEY": "any key of it, such as LLAMAPROXY_SERVER__PORT",
    "LLAMAPROXY_URL": "address of the gateway, for verbs that ask one",
    "LLAMAPROXY_API_KEY": "the key that they show; LLAMAPROXY_API_KEY_FILE names a file with it",
    "NO_COLOR": "no colours",
}


def document() -> str:
    """The whole text. Lines break as on a terminal, which must be the same one everywhere."""
    os.environ["COLUMNS"] = "100"
    words = parser()
    page = Manpage(words, format="single-commands-section")
    page.date, page.manual, page.source = "", MANUAL, MANUAL
    text = str(page).replace(".SH\nPOSITIONAL ARGUMENTS\n", ".SH VERBS\n", 1)
    # `apropos` wants name and meaning on one line.
    text = text.replace(f".SH NAME\n{MANUAL}\n", f".SH NAME\n{MANUAL} \\- {words.description}\n", 1)
    body, _, comments = text.partition(".SH COMMENTS\n")
    return "\n".join((body.rstrip(), *exit_status(), *environment(), ".SH SEE ALSO", comments.rstrip(), ""))


def exit_status() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for code, meaning in EXIT_CODES.items():
        yield from (".TP", f".B {code}", meaning)


def environment() -> Iterator[str]:
    yield ".SH ENVIRONMENT"
    for variable, meaning in ENVIRONMENT.items():
        yield from (".TP", f".B {variable}", meaning)


if __name__ == "__main__":
    text = document()
    if sys.argv[1:] == ["--check"]:
        sys.exit(None if TARGET.read_text("utf-8") == text else f"{TARGET} is out of date: make docs")
    TARGET.write_text(text, "utf-8")
