"""Writes docs/llamaproxy.1, the manual page, from the command line's own parser: `make docs`.

It is part of the wheel, so that `man llamaproxy` finds it wherever the environment's `share/man` is looked into.
"""

import os
import sys
from pathlib import Path

from argparse_manpage.manpage import Manpage

from llamaproxy.cli.verbs import parser

TARGET = Path(__file__).with_name("llamaproxy.1")
MANUAL = "llamaproxy"


def document() -> str:
    """The whole text. Lines break as on a terminal, which must be the same one everywhere."""
    os.environ["COLUMNS"] = "100"
    page = Manpage(parser(), format="single-commands-section")
    page.date, page.manual, page.source = "", MANUAL, MANUAL
    return f"{page}\n"


if __name__ == "__main__":
    text = document()
    if sys.argv[1:] == ["--check"]:
        sys.exit(None if TARGET.read_text("utf-8") == text else f"{TARGET} is out of date: make docs")
    TARGET.write_text(text, "utf-8")
