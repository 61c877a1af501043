"""The file of keys that were made at run time: hashes and rules, never a secret.

Owns where it lies and what it looks like.
A file and not a table of the database, because keys must be known before the first request, must not be lost with a
corrupt database, and are there where `telemetry.database` is "off". Gateways that share it change it one at a time.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llamaproxy import statefile
from llamaproxy.config import KeyConfig
from llamaproxy.errors import ConfigError
from llamaproxy.values import KeyName, Moment

MOST = 100_000
"""Keys in one file."""
_FILE = "keys.json"


class StoredKey(KeyConfig):
    created_at: Moment = Field(description="when it was made")


Stored = Mapping[str, StoredKey]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    keys: dict[KeyName, StoredKey] = Field({}, max_length=MOST)


def location(named: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Where `server.keys_file` says, else beside the database's own place."""
    return Path(named).expanduser() if named else statefile.state_directory(environ) / _FILE


def read(path: Path) -> Stored:
    """Raises ConfigError where the file is there and no good: without its keys a gateway might stand open."""
    try:
        return _Document.model_validate_json(path.read_bytes()).keys
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: the file of keys cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: is no file of keys: {where or 'the document'}: {first['msg']}") from error


def change(path: Path, alter: Callable[[Stored], Stored]) -> Stored:
    """What `alter` makes of the keys as they are now, written. Raises ConfigError, and whatever `alter` raises.

    Blocks on the disk, and on other gateways that change it.
    """
    try:
        with statefile.locked(path):
            altered = alter(read(path))
            statefile.replace(path, _text(altered))
            return altered
    except OSError as error:
        raise ConfigError(
            f"{path}: the file of keys cannot be written: {error.strerror}; server.keys_file names another place"
        ) from error


def _text(keys: Stored) -> str:
    return json.dumps({"version": 1, "keys": {name: _sparse(key) for name, key in keys.items()}}, indent=2)


def _sparse(key: StoredKey) -> dict[str, object]:
    """Without what is as it would be anyway: an earlier release refuses keys that it does not know."""
    return key.model_dump(mode="json", exclude_defaults=True)
