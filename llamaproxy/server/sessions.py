"""Who has signed in with a browser: random names for keys, so that no page and no cookie has to hold a key.

Owns how long a session lasts and how many there are. Lives in memory: after a restart everybody signs in again. Holds
hashes only.
"""

import hashlib
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

COOKIE = "llamaproxy_session"
LIFETIME = 7 * 86400.0
"""Seconds."""
MOST = 1000
"""The oldest goes first."""
_COOKIE = re.compile(rf"(?:^|;) ?{COOKIE}=([A-Za-z0-9_-]{{43}})(?:;|$)")


class Sessions:
    """Sessions of keys, which are known here by their SHA-256 in hex."""

    def __init__(self, clock: Callable[[], float] = time.time, most: int = MOST) -> None:
        self._clock = clock
        self._most = most
        self._sessions: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def begin(self, fingerprint: str) -> str:
        """A name that nobody can guess, for a browser to keep."""
        if len(self._sessions) >= self._most:
            self._sessions.popitem(last=False)
        token = secrets.token_urlsafe(32)
        self._sessions[_hash(token)] = (fingerprint, self._clock() + LIFETIME)
        return token

    def end(self, token: str) -> None:
        """It means nothing any more; as with one that never did."""
        self._sessions.pop(_hash(token), None)

    def fingerprint(self, token: str) -> str | None:
        """Of the key that began it, None where it is over."""
        fingerprint, expires = self._sessions.get(_hash(token), (None, 0.0))
        return fingerprint if self._clock() < expires else None


def token_of(cookies: str) -> str | None:
    """The session in a Cookie header field, if there is one."""
    found = _COOKIE.search(cookies)
    return found[1] if found else None


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
