"""What stdout is, and what is written there for programs.

Owns how wide a table may be, whether it may be coloured, and the version of the JSON that scripts rely on.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any

_COLUMNS = 80
"""Of a terminal that does not say how many it has."""
SCHEMA_VERSION = 1
"""Of every document that a verb prints with `--json`. Fields may be added to it; what is there keeps its meaning."""


def width() -> int | None:
    """Columns of the terminal; None where there is none, and lines may be of any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def is_coloured() -> bool:
    """Source of NO_COLOR: no-color.org."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def clear() -> None:
    """Begin at the top of an empty screen, where there is one."""
    if sys.stdout.isatty():
        sys.stdout.write("\x1b[H\x1b[J")


def rewrite(line: str = "") -> None:
    """The line of the terminal that stderr is, instead of what stood there: what has wrapped cannot be taken back."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        columns = _COLUMNS
    sys.stderr.write(f"\r\x1b[K{line[: columns - 1]}")
    sys.stderr.flush()


def print_json(content: Mapping[str, Any], indent: int | None = 2) -> None:
    """One document; without `indent` on one line."""
    print(json.dumps({"schema_version": SCHEMA_VERSION, **content}, indent=indent, ensure_ascii=False), flush=True)
