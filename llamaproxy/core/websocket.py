"""The opening handshake of a WebSocket, as an intermediary sees it.

Pure. Source: RFC 6455, section 4. What follows the handshake is nobody's business here.
"""

import base64
import hashlib
import re
from collections.abc import Mapping

from llamaproxy.core.response import SWITCHING, BadResponse, Head

_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def key_of(method: str, version: tuple[int, int], fields: Mapping[str, str]) -> str | None:
    """The key of a request that asks for a WebSocket as it should; None for any other. `fields` in any case."""
    if method != "GET" or version != (1, 1) or fields.get("Upgrade", "").lower() != "websocket":
        return None
    options = {option.strip() for option in fields.get("Connection", "").lower().split(",")}
    if "upgrade" not in options or fields.get("Sec-WebSocket-Version") != "13":
        return None
    key = fields.get("Sec-WebSocket-Key", "")
    return key if _KEY.fullmatch(key) else None


def accept_of(key: str) -> str:
    """What a server that has understood this key answers."""
    return base64.b64encode(hashlib.sha1((key + _MAGIC).encode(), usedforsecurity=False).digest()).decode()


def check_answer(head: Head, key: str) -> None:
    """Raises BadResponse where the server has not changed to the protocol that it was asked for."""
    if head.status != SWITCHING:
        raise BadResponse(f"it answered {head.status} to the handshake of a WebSocket")
    said = {name.lower(): value for name, value in head.fields}
    if (
        said.get(b"upgrade", b"").lower() != b"websocket"
        or said.get(b"sec-websocket-accept") != accept_of(key).encode()
    ):
        raise BadResponse("its answer to the handshake of a WebSocket is another's")
