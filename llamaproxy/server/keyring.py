"""Keys that are made and revoked while the gateway runs.

Owns what may be made and revoked, and that a change is on the disk before it is in force. The secret of a new key is
told once, by what `create` returns, and kept nowhere. Knows no HTTP.
"""

import base64
import logging
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llamaproxy.errors import Conflict, InvalidRequest, NotFound
from llamaproxy.models.download import in_thread
from llamaproxy.server import keyfile
from llamaproxy.server.current import Current
from llamaproxy.server.guard import fingerprint
from llamaproxy.server.keyfile import Stored, StoredKey
from llamaproxy.values import check_name, parse_duration

log = logging.getLogger(__name__)

_RANDOM_BYTES = 20
_OURS = ("sha256", "created_at")
"""What no client decides."""


def new_key(wanted: Mapping[str, Any]) -> tuple[str, str, StoredKey]:
    """Secret, name and rules of a key that nobody can guess: 160 random bits. Raises InvalidRequest."""
    secret = "lp-" + base64.b32encode(secrets.token_bytes(_RANDOM_BYTES)).decode().lower()
    return secret, *_read(wanted, secret, datetime.now(UTC))


class Keyring:
    """The stored keys of one gateway; those in force stand in `Current`."""

    def __init__(self, current: Current, on_change: Callable[[], None] = lambda: None) -> None:
        """`on_change` is called whenever other keys are in force."""
        self._current = current
        self._on_change = on_change
        self.refresh()

    @property
    def _path(self) -> Path:
        return keyfile.location(self._current.config.server.keys_file)

    def refresh(self) -> None:
        """Read the file again: another gateway may have changed it. Raises ConfigError, and then nothing changes."""
        current = self._current
        current.replace(current.config, current.catalogue, keyfile.read(self._path))
        self._on_change()

    async def create(self, wanted: Mapping[str, Any]) -> tuple[str, str, StoredKey]:
        """Secret, name and rules of a new key. Raises InvalidRequest or ConfigError."""
        secret, name, key = new_key(wanted)

        def add(stored: Stored) -> Stored:
            if name in stored or name in self._current.config.keys:
                raise Conflict(f"there is a key {name!r} already", param="name")
            if len(stored) >= keyfile.MOST:
                raise InvalidRequest(f"there are {keyfile.MOST} keys already: revoke some first")
            return {**stored, name: key}

        await self._change(add)
        log.info("the key %r was made", name)
        return secret, name, key

    async def revoke(self, name: str) -> None:
        """It is refused from now on; requests that it began go on. Raises NotFound, InvalidRequest or ConfigError."""
        configured = self._current.config.keys
        if name in configured:
            raise InvalidRequest(
                f"the key {name!r} stands in the configuration: take [keys.{name}] out there, and it is revoked"
            )

        def remove(stored: Stored) -> Stored:
            if name not in stored:
                raise NotFound(f"there is no key {name[:128]!r}")
            left = {other: key for other, key in stored.items() if other != name}
            others = [*left.values(), *configured.values()]
            if stored[name].admin and others and not any(key.admin for key in others):
                raise InvalidRequest(f"{name!r} is the last key with admin rights: make another first")
            return left

        await self._change(remove)
        log.info("the key %r was revoked", name)

    async def _change(self, alter: Callable[[Stored], Stored]) -> None:
        """What stands in the file then is in force, whoever else changed it, and although its client may have left."""
        try:
            await in_thread(keyfile.change, self._path, alter)
        finally:
            self.refresh()


def _read(wanted: Mapping[str, Any], secret: str, now: datetime) -> tuple[str, StoredKey]:
    """Name and rules out of a request. Raises InvalidRequest."""
    rules = {field: value for field, value in wanted.items() if field != "name" and value is not None}
    if given := [field for field in _OURS if field in rules]:
        raise InvalidRequest(f"`{given[0]}` is not the client's to say", param=given[0])
    name = wanted.get("name")
    try:
        name = check_name(name if isinstance(name, str) else "")
    except ValueError as error:
        raise InvalidRequest(str(error), param="name") from error
    try:
        rules["expires"] = _moment(rules.get("expires"), now)
        key = StoredKey.model_validate({**rules, "sha256": fingerprint(secret), "created_at": now})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = str(first["loc"][0])[:64] if first["loc"] else None
        raise InvalidRequest(f"`{field}`: {first['msg']}", param=field) from error
    if key.expires and key.expires <= now:
        raise InvalidRequest("`expires` is over already", param="expires")
    return name, key


def _moment(value: object, now: datetime) -> object:
    """A duration such as "30d" from now on; everything else is left for the type to judge. Raises InvalidRequest."""
    try:
        seconds = parse_duration(value) if isinstance(value, str) else None
    except ValueError:
        return value
    try:
        return (now + timedelta(seconds=seconds)).replace(microsecond=0) if isinstance(seconds, float) else value
    except OverflowError as error:
        raise InvalidRequest("`expires` is too far away", param="expires") from error
