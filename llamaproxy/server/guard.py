"""Who may come in: Host, Origin, keys.

A web page in the operator's browser can reach a gateway on loopback: the Host check stops names that were rebound to
it, the Origin check stops requests from foreign pages. Keys are compared by hash and never kept.
"""

import hashlib
import ipaddress
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache

from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy, istr

from llamaproxy.config import Config, KeyConfig
from llamaproxy.core.keys import Key, Keys
from llamaproxy.errors import ConfigError, Forbidden, ForbiddenOrigin, InvalidApiKey, InvalidRequest
from llamaproxy.server.sessions import Sessions, token_of

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_OPEN_PATHS = frozenset({"/", "/health", "/ready"})
_ADMIN_PATHS = frozenset({"/api", "/metrics", "/models/load", "/models/unload", "/llamaproxws"})
_SIGN_IN = "/api/session"
_FETCH_SITE = istr("Sec-Fetch-Site")
"""Asked for with every request, as `hdrs` has the others: a name that is none yet takes twice as long to be found."""
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:]+))(?::[0-9]*)?", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(config: Config) -> None:
    """Raises ConfigError where anybody on the network could use the gateway."""
    if not is_loopback(config.server.host) and not config.keys:
        raise ConfigError(
            f"server.host: {config.server.host} can be reached from other machines, and no key is configured; "
            "`llamaproxy keys create NAME` makes one"
        )


class Guard:
    """Checks that need nothing but the request's head."""

    def __init__(
        self,
        config: Config,
        stored: Mapping[str, KeyConfig] | None = None,
        sessions: Sessions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._public = not is_loopback(config.server.host)
        self._hosts = {config.server.host.lower(), *map(str.lower, config.server.allowed_hosts), *_LOCAL_NAMES}
        self._origins = frozenset(origin.rstrip("/").lower() for origin in config.server.allowed_origins)
        self._keys = Keys(config.keys, stored)
        self._open = not self._keys
        self._sessions = sessions or Sessions()
        self._clock = clock

    def check(self, method: str, path: str, headers: CIMultiDictProxy[str]) -> Key | None:
        """The key that was shown, where one is needed.

        Raises Forbidden, ForbiddenOrigin, InvalidApiKey, or InvalidRequest.
        """
        self._check_host(headers.get(hdrs.HOST, ""))
        origin = headers.get(hdrs.ORIGIN)
        if origin and (method not in _SAFE_METHODS or "Upgrade" in headers):
            self.check_origin(origin, headers)
        elif headers.get(_FETCH_SITE) == "cross-site" and method != "OPTIONS" and path not in _OPEN_PATHS:
            self._check_site(method, headers)
        if self._open or path in _OPEN_PATHS or path == _SIGN_IN or method == "OPTIONS":
            return None
        key = self._keys.find(self._identify(method, path, headers), self._clock())
        if not key.admin and _is_for_admins(path):
            self._check_plain_keys_may_administer()
        return key

    def admin(self, hashed: str) -> Key:
        """The key with this fingerprint, to sign in with. Raises InvalidApiKey or Forbidden."""
        key = self._keys.find(hashed, self._clock())
        if not key.admin:
            self._check_plain_keys_may_administer()
        return key

    def check_origin(self, origin: str, headers: CIMultiDictProxy[str]) -> None:
        """A page may act on the gateway if the gateway served it, or the configuration says so.

        Behind a proxy with TLS the page of the same name without TLS is a foreign one: anybody on the way can write it.
        """
        if not self.allows_origin(origin) and not _is_own(origin, headers):
            raise ForbiddenOrigin(f"pages of {origin[:200]!r} may not do this; server.allowed_origins can allow it")

    def allows_origin(self, origin: str) -> bool:
        """Whether a foreign page may read answers."""
        return origin.rstrip("/").lower() in self._origins

    def _check_site(self, method: str, headers: CIMultiDictProxy[str]) -> None:
        """The images and frames of foreign pages send no Origin, and what they ask for may start a model.

        Source: W3C, "Fetch Metadata Request Headers". A person may follow a link.
        """
        if self.allows_origin(headers.get("Origin", "")):
            return
        by_hand = headers.get("Sec-Fetch-Dest") == "document" and headers.get("Sec-Fetch-User") == "?1"
        if method not in _SAFE_METHODS or not by_hand:
            raise ForbiddenOrigin("pages of other sites may not do this; server.allowed_origins can allow it")

    def _check_host(self, host: str) -> None:
        name = _host_name(host)
        if name in self._hosts or (self._public and _is_address(name)):
            return
        if not host:
            raise InvalidRequest("the request names no host: it needs a `Host` field, in HTTP/1.0, too")
        raise Forbidden(f"the host name {host[:200]!r} is not one of this gateway's; server.allowed_hosts can add it")

    def _check_plain_keys_may_administer(self) -> None:
        """On this machine they may, until one key has been told from the others: somebody must be able to."""
        if self._public or self._keys.has_admin:
            raise Forbidden("this needs a key with `admin = true`")

    def _identify(self, method: str, path: str, headers: CIMultiDictProxy[str]) -> str:
        """The fingerprint of the key that is shown, or that a browser has signed in with. Raises InvalidApiKey."""
        if secret := extract_key(headers):
            return fingerprint(secret)
        token = token_of(headers.get("Cookie", ""))
        if token and _is_for_pages(path) and _is_from_own_page(method, headers):
            if found := self._sessions.fingerprint(token):
                return found
            raise InvalidApiKey("the session is over: sign in again")
        raise InvalidApiKey("an API key is needed: send it as `Authorization: Bearer ...`")


def extract_key(headers: CIMultiDictProxy[str]) -> str | None:
    """The key a client shows, in either of the two usual places."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key") or None


def fingerprint(secret: str) -> str:
    """SHA-256 in hex: keys have 160 random bits, so nothing slower is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def is_forwarded_from_tls(headers: CIMultiDictProxy[str] | CIMultiDict[str]) -> bool:
    """Whether the client came to a proxy in front with TLS. Who lies about it only shuts itself out."""
    return headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower() == "https"


def _is_own(origin: str, headers: CIMultiDictProxy[str]) -> bool:
    schemes = ("https",) if is_forwarded_from_tls(headers) else ("http", "https")
    host = headers.get("Host", "").lower()
    return origin.lower() in {f"{scheme}://{host}" for scheme in schemes}


def _is_from_own_page(method: str, headers: CIMultiDictProxy[str]) -> bool:
    """A browser sends its cookies whoever asks, and a page from another port of this host passes for the same site.

    It says who asks with Sec-Fetch-Site (W3C, "Fetch Metadata Request Headers"), or where that is missing, as without
    TLS, with Origin (Fetch, "Origin header"): not with a GET, which changes nothing here.
    """
    changes = method not in _SAFE_METHODS or "Upgrade" in headers
    if site := headers.get("Sec-Fetch-Site"):
        return site == "same-origin" or (site == "none" and not changes)
    origin = headers.get("Origin")
    return _is_own(origin, headers) if origin else not changes


def _is_for_pages(path: str) -> bool:
    """What the dashboard asks."""
    return path.startswith(("/api/", "/v1/")) or path == "/llamaproxws"


def _is_for_admins(path: str) -> bool:
    return path.startswith("/api/") or path in _ADMIN_PATHS


@lru_cache(maxsize=64)
def _host_name(host: str) -> str:
    """The name in a Host field, without port, brackets and case; nothing where the field is not well-formed."""
    match = _HOST.fullmatch(host)
    return (match[1] or match[2]).lower() if match else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
