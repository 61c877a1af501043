"""Short folders: the path of a Unix socket has 108 bytes at most, and pytest's own folders are longer than that.

`conftest` removes them at the end of all tests.
"""

import shutil
import tempfile
from pathlib import Path

_made: list[Path] = []


def short_folder() -> Path:
    """A new one."""
    _made.append(Path(tempfile.mkdtemp(prefix="lp-")))
    return _made[-1]


def remove_all() -> None:
    while _made:
        shutil.rmtree(_made.pop(), ignore_errors=True)
