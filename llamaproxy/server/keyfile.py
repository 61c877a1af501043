"""The file of keys that were made at run time: hashes and rules, never a secret.

Owns where it lies, what it looks like, and that it is whole at any moment: it is written beside its place and renamed.
A file and not a table of the database, because keys must be known before the first request, must not be lost with a
corrupt database, and are there where `telemetry.database` is "off". Gateways that share it change it one at a time.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llamaproxy.config import KeyConfig
from llamaproxy.errors import ConfigError
from llamaproxy.telemetry.history import state_directory
from llamaproxy.values import ModelName, Moment

MOST = 100_000
"""Keys in one file."""
_FILE = "keys.json"


class StoredKey(KeyConfig):
    created_at: Moment = Field(description="when it was made")


Stored = Mapping[str, StoredKey]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    keys: dict[ModelName, StoredKey] = Field({}, max_length=MOST)


def location(named: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Where `server.keys_file` says, else beside the database's own place."""
    return Path(named).expanduser() if named else state_directory(environ) / _FILE


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
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path):
            altered = alter(read(path))
            _write(path, altered)
            return altered
    except OSError as error:
        raise ConfigError(
            f"{path}: the file of keys cannot be written: {error.strerror}; server.keys_file names another place"
        ) from error


def _write(path: Path, keys: Stored) -> None:
    document = {"version": 1, "keys": {name: _sparse(key) for name, key in keys.items()}}
    # mkstemp makes it for nobody but this user.
    fd, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise


def _sparse(key: StoredKey) -> dict[str, object]:
    """Without what is as it would be anyway: an earlier release refuses keys that it does not know."""
    return key.model_dump(mode="json", exclude_defaults=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Among processes. The file itself is replaced, so that a lock on it would hold nobody."""
    fd = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        try:
            import fcntl
        except ImportError:  # on Windows, where nobody shares it but by intention
            pass
        else:
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
