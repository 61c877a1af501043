"""What operators do with keys: list, make, revoke. The guard has seen to it that they may.

Handlers only; no answer but that of `create` holds a secret, and none a hash.
"""

from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from llamaproxy.config import KeyConfig
from llamaproxy.server.answers import json_response
from llamaproxy.server.current import Current
from llamaproxy.server.keyring import Keyring


class WantedKey(BaseModel):
    """A name, and the rules of [keys.NAME]; `expires` may be a duration from now."""

    model_config = ConfigDict(extra="allow")
    name: str = Field(min_length=1, max_length=128)


class ShownKey(BaseModel):
    """`source`: "configured" in the file or environment, or "stored" by the gateway."""

    name: str
    source: str
    models: list[str]
    rpm: int | None
    tpm: int | None
    concurrency: int | None
    priority: int
    expires: str | None
    admin: bool


class MadeKey(ShownKey):
    """With its secret."""

    key: str


class KeyPage(BaseModel):
    keys: list[ShownKey]


class Revoked(BaseModel):
    success: bool


class KeyRoutes:
    """Handlers for `/api/keys`."""

    def __init__(self, current: Current, keyring: Keyring) -> None:
        self._current = current
        self._keyring = keyring

    async def list(self, request: web.Request) -> web.Response:
        """All keys in force, with their rules."""
        configured, stored = self._current.config.keys, self._current.stored_keys
        shown = [_shown(name, key, "configured") for name, key in configured.items()]
        shown += [_shown(name, key, "stored") for name, key in stored.items() if name not in configured]
        return json_response({"keys": shown})

    async def create(self, request: web.Request, wanted: WantedKey) -> web.Response:
        """A new key. Raises InvalidRequest or ConfigError."""
        secret, name, key = await self._keyring.create(wanted.model_dump())
        return json_response({"key": secret, **_shown(name, key, "stored")}, 201)

    async def revoke(self, request: web.Request, name: str) -> web.Response:
        """Raises NotFound, InvalidRequest where it is not to be revoked here, or ConfigError."""
        await self._keyring.revoke(name)
        return json_response({"success": True})


def _shown(name: str, key: KeyConfig, source: str) -> dict[str, Any]:
    return {"name": name, "source": source, **key.model_dump(mode="json", exclude={"sha256"})}
