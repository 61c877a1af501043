"""`llamaproxy init`: a configuration file to begin with."""

import argparse
import os
from pathlib import Path

from llamaproxy.backends.arguments import faults as argument_faults
from llamaproxy.cli import EXIT_CONFIGURATION, EXIT_CONFLICT, EXIT_FAILED, complain
from llamaproxy.errors import ConfigError
from llamaproxy.models.presets import Kind, import_presets

_HERE = Path(__file__).parent
_KINDS: dict[str, Kind] = {".ini": "llama-server", ".yaml": "llama-swap", ".yml": "llama-swap"}
_PLACES = (_HERE / "config.example.toml", _HERE.parent.parent / "config.example.toml")


def run(arguments: argparse.Namespace) -> int:
    """Write the commented example, or what another program is told; never over a file that is there, unless forced."""
    try:
        text = imported(arguments.source) if arguments.source else example()
    except ConfigError as error:
        complain(error.message)
        return EXIT_CONFIGURATION
    try:
        with arguments.file.open("w" if arguments.force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        complain(f"{arguments.file} exists; --force overwrites it")
        return EXIT_CONFLICT
    except OSError as error:
        complain(f"{arguments.file}: {error.strerror}")
        return EXIT_FAILED
    print(f"wrote {arguments.file}; `llamaproxy serve --config {arguments.file}` uses it")
    return 0


def imported(source: Path) -> str:
    """The configuration of another program as ours; what has no place in it is told on stderr. Raises ConfigError."""
    kind = _KINDS.get(source.suffix.lower())
    if kind is None:
        raise ConfigError(f"{source}: only {', '.join(_KINDS)} files can be taken over")
    try:
        text = source.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    result = import_presets(text, kind, argument_faults, os.environ)
    for line in result.unmapped:
        complain(f"not taken over: {line}")
    return result.toml


def example() -> str:
    """The example's text: inside the package when installed, in the repository when run from there."""
    return next(path for path in _PLACES if path.is_file()).read_text("utf-8")
