"""What operators do with keys: list, make, revoke. The guard has seen to it that they may.

Handlers only; no answer but that of `create` holds a secret, and none a hash.
"""

from typing import Any

from aiohttp import web

from llamaproxy.config import KeyConfig
from llamaproxy.errors import InvalidRequest, MethodNotAllowed
from llamaproxy.server import body
from llamaproxy.server.answers import json_response
from llamaproxy.server.current import Current
from llamaproxy.server.keyring import Keyring

_LARGEST_BODY = 256 * 1024
"""Bytes: a key may name thousands of models."""
_BODY_TIMEOUT = 10.0


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

    async def create(self, request: web.Request) -> web.Response:
        """A new key: `name`, and the rules of [keys.NAME]; `expires` may be a duration. Raises InvalidRequest."""
        wanted = await body.read_json(request, _LARGEST_BODY, _BODY_TIMEOUT)
        if not isinstance(wanted, dict):
            raise InvalidRequest("the body must be a JSON object")
        secret, name, key = await self._keyring.create(wanted)
        return json_response({"key": secret, **_shown(name, key, "stored")}, 201)

    async def one(self, request: web.Request, name: str) -> web.Response:
        """Revoke a key. Raises NotFound, or InvalidRequest where it is not to be revoked here."""
        if request.method != "DELETE":
            raise MethodNotAllowed.taking("/api/keys/{name}", ["DELETE"])
        await self._keyring.revoke(name)
        return json_response({"success": True})


def _shown(name: str, key: KeyConfig, source: str) -> dict[str, Any]:
    return {"name": name, "source": source, **key.model_dump(mode="json", exclude={"sha256"})}
