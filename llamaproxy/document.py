"""The configuration file as it stands on the disk: where it is, and the tables in it.

Knows no key and judges no value: `configfile` does. Light, so that the verbs that only ask a gateway can use it.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llamaproxy.errors import ConfigError

FILE_VARIABLE = "LLAMAPROXY_CONFIG"


def find_file(explicit: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The configuration file to read: `explicit`, $LLAMAPROXY_CONFIG, ./llamaproxy.toml, the user's own; or none.

    Raises ConfigError where a file was asked for and is not there.
    """
    named = explicit or (Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else None)
    if not named:
        # Not Path.is_file: it raises where a service runs under a home directory that it may not enter.
        return next((path for path in (Path("llamaproxy.toml"), user_file()) if os.path.isfile(path)), None)
    if os.path.isdir(named):
        raise ConfigError(f"{named}: is a directory, not a configuration file")
    if not os.path.exists(named):
        raise ConfigError(f"{named}: no such configuration file (`llamaproxy init {named}` writes one)")
    return named


def user_file() -> Path:
    """Where the user's own configuration is looked for."""
    from platformdirs import user_config_path  # as slow as the rest of a small verb together

    return user_config_path("llamaproxy") / "llamaproxy.toml"


def read(path: Path) -> dict[str, Any]:
    """Raises ConfigError where it is no TOML that can be read."""
    try:
        return parse(path.read_bytes().decode("utf-8-sig"), path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8: {error}") from error


def parse(text: str, path: Path) -> dict[str, Any]:
    """The same, of what stands in it or is to stand in it."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
