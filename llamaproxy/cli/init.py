"""`llamaproxy init`: a configuration file to begin with."""

import argparse
from pathlib import Path

from llamaproxy.cli import EXIT_FAILED, complain

_HERE = Path(__file__).parent
_PLACES = (_HERE / "config.example.toml", _HERE.parent.parent / "config.example.toml")


def run(arguments: argparse.Namespace) -> int:
    """Write the commented example; never over a file that is there, unless forced."""
    text = example()
    try:
        with arguments.file.open("w" if arguments.force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        complain(f"{arguments.file} exists; --force overwrites it")
        return EXIT_FAILED
    except OSError as error:
        complain(f"{arguments.file}: {error.strerror}")
        return EXIT_FAILED
    print(f"wrote {arguments.file}; `llamaproxy serve --config {arguments.file}` uses it")
    return 0


def example() -> str:
    """The example's text: inside the package when installed, in the repository when run from there."""
    return next(path for path in _PLACES if path.is_file()).read_text("utf-8")
