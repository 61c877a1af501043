"""The Hugging Face hub over HTTP: what a repository holds, and bytes of its files.

Owns addresses, the token, redirects, and what the hub's answers mean. The token is shown to the hub's own origin and to
nobody it redirects to. Writes nothing. `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HOME` mean what they mean to
huggingface_hub (package reference, "Environment variables").
"""

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from yarl import URL

from llamaproxy import __version__
from llamaproxy.errors import (
    ChecksumMismatch,
    ConfigError,
    GatewayError,
    HubBusy,
    HubDenied,
    HubError,
    RepositoryNotFound,
)
from llamaproxy.models.repository import HubFile, Repository, Selection, check_repository, check_revision
from llamaproxy.models.repository import read_repository as read

log = logging.getLogger(__name__)

ENDPOINT = "https://huggingface.co"
_LARGEST_DOCUMENT = 16 * 1024**2
"""Bytes of a repository's description: 10,000 files fit several times."""
_LARGEST_TOKEN = 4096
_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LONGEST_WAIT = 300.0
"""Seconds that the hub may have us wait."""
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_SHA256 = re.compile(r'(?:W/)?"?([0-9a-f]{64})"?')


@dataclass(frozen=True, slots=True)
class Access:
    """Where the hub is, and the token that it is shown."""

    endpoint: str = ENDPOINT
    token: str | None = None


def access(environ: Mapping[str, str] = os.environ) -> Access:
    """As the environment says, and the file of a login. Blocks on the disk. Raises ConfigError."""
    endpoint = environ.get("HF_ENDPOINT", "").strip().rstrip("/") or ENDPOINT
    try:
        address = URL(endpoint)
        more = address.user or address.password or address.query_string
        good = address.scheme in ("http", "https") and address.host and not more
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"HF_ENDPOINT is no address such as {ENDPOINT}, without user and password")
    token = environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN") or _stored_token(environ)
    token = token.strip() if token else None
    if token and not re.fullmatch(r"[!-~]{1,4096}", token):
        raise ConfigError("HF_TOKEN: a token has printable ASCII characters, and no blanks")
    return Access(endpoint, token or None)


def _stored_token(environ: Mapping[str, str]) -> str | None:
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = environ.get("HF_HOME") or f"{cache}/huggingface"
    try:
        with Path(environ.get("HF_TOKEN_PATH") or f"{home}/token").expanduser().open(encoding="utf-8") as file:
            return file.read(_LARGEST_TOKEN)
    except (OSError, ValueError, RuntimeError):
        return None  # nobody has logged in here


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a file on its way: `start` is the place of its first byte, `etag` a strong one of who sends it."""

    start: int
    etag: str | None
    content: aiohttp.StreamReader


class Hub:
    """A session with the hub; `stall` is the longest silence, in seconds, that is taken for work."""

    def __init__(self, access: Access, stall: float = 30.0) -> None:
        self._endpoint = URL(access.endpoint)
        self._token = access.token
        self._timeout = aiohttp.ClientTimeout(total=None, connect=stall, sock_connect=stall, sock_read=stall)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End it; a later request begins a new one."""
        session, self._session = self._session, None
        if session:
            await session.close()

    async def repository(self, name: str, revision: str = "main") -> Repository:
        """Raises InvalidRequest, RepositoryNotFound, HubDenied, HubBusy or HubError."""
        check_repository(name)
        path = f"/api/models/{name}/revision/{quote(check_revision(revision), safe='')}?blobs=true"
        async with self._get(path, {}) as (response, _):
            if response.status != 200:
                raise HubError(f"the hub answered {response.status}")
            content = await _bounded(response)
        try:
            return read(name, orjson.loads(content))
        except ValueError as error:
            raise HubError(f"the hub's answer about {name} cannot be used: {error}") from error

    @asynccontextmanager
    async def piece(
        self, source: Selection | Repository, file: HubFile, start: int, end: int, etag: str | None = None
    ) -> AsyncIterator[Piece]:
        """The bytes from `start` on, up to `end` or the file's own end; from its beginning where it is not the one of
        `etag` any more. Raises like `repository`, and ChecksumMismatch where the hub has another file by now."""
        name = source.repository if isinstance(source, Selection) else source.name
        path = f"/{name}/resolve/{source.commit}/{quote(file.path)}"
        headers = {"Range": f"bytes={start}-{end - 1}", **({"If-Range": etag} if start and etag else {})}
        async with self._get(path, headers) as (response, linked):
            if linked and linked != file.sha256:
                raise ChecksumMismatch(f"{file.name}: the hub has another file by now; ask it again what there is")
            yield Piece(_start(response, file, start), _strong(response), response.content)

    @asynccontextmanager
    async def _get(
        self, path: str, headers: dict[str, str]
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, str | None]]:
        """The answer at the end of all redirects, and the checksum that the hub itself told on the way."""
        url = URL(f"{self._endpoint}{path}", encoded=True) if self._endpoint.path == "/" else self._below(path)
        linked = None
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                own = self._is_own(url)
                async with await self._ask(url, self._headers(headers, own)) as response:
                    if own and (told := _SHA256.fullmatch(response.headers.get("X-Linked-Etag", ""))):
                        linked = told[1]
                    if response.status not in _REDIRECTS:
                        _check(response, own)
                        yield response, linked
                        return
                    url = _next(url, response)
        except aiohttp.ClientConnectorError as error:
            raise HubError(f"{url.host} cannot be reached: {error.strerror or error}") from error
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise HubError(f"{url.host} broke off: {str(error) or type(error).__name__:.300}") from error
        raise HubError("the hub redirects without end")

    async def _ask(self, url: URL, headers: dict[str, str]) -> aiohttp.ClientResponse:
        proxy, password = await asyncio.to_thread(_proxy, url)
        # Without TLS the request itself is what the proxy sees, and not what comes before a tunnel.
        seen = password if url.scheme == "http" else {}
        try:
            return await self._opened().get(
                url, headers={**headers, **seen}, allow_redirects=False, proxy=proxy, proxy_headers=password
            )
        except ValueError as error:
            raise HubError(f"{url.host!r:.100} is no host that could be asked") from error

    def _below(self, path: str) -> URL:
        return URL(f"{str(self._endpoint).rstrip('/')}{path}", encoded=True)

    def _is_own(self, url: URL) -> bool:
        return url.origin() == self._endpoint.origin()

    def _headers(self, headers: dict[str, str], own: bool) -> dict[str, str]:
        """Without compression: what is stored is what must arrive."""
        token = {"Authorization": f"Bearer {self._token}"} if own and self._token else {}
        return {"User-Agent": f"llamaproxy/{__version__}", "Accept-Encoding": "identity", **token, **headers}

    def _opened(self) -> aiohttp.ClientSession:
        """Without cookies and ~/.netrc, which `trust_env` would bring in: nothing but the token says who asks."""
        if self._session is None:
            jar = aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(timeout=self._timeout, cookie_jar=jar, auto_decompress=False)
        return self._session


def _proxy(url: URL) -> tuple[URL | None, dict[str, str]]:
    """That of the environment, and the header with its password: its address is told in errors.

    May block: some systems are asked, and not the environment alone.
    """
    told = getproxies().get(url.scheme)
    if not told or (url.host and proxy_bypass(url.host)):
        return None, {}
    proxy = URL(told)
    if proxy.scheme == "https":
        log.warning("proxies that are spoken to over TLS are not supported: %s is asked directly", url.host)
        return None, {}
    if proxy.user is None and proxy.password is None:
        return proxy, {}
    return proxy.with_user(None), {
        "Proxy-Authorization": aiohttp.encode_basic_auth(proxy.user or "", proxy.password or ""),
    }


def _next(url: URL, response: aiohttp.ClientResponse) -> URL:
    """Raises HubError, which tells no address: it may have a password, or a signature."""
    try:
        following = url.join(URL(response.headers["Location"], encoded=True))
        good = following.scheme in ("http", "https") and following.host
    except (LookupError, ValueError):
        good = False
    if not good or (url.scheme == "https" and following.scheme != "https"):
        raise HubError(f"{url.host} redirects to where nobody should follow")
    if following.user or following.password:
        raise HubError(f"{url.host} redirects to an address with a password, which is not followed")
    return following


def _check(response: aiohttp.ClientResponse, own: bool) -> None:
    """Raises for what is no success. Who stores files for the hub says 403 of an address that has expired."""
    status = response.status
    if status < 300:
        return
    code = response.headers.get("X-Error-Code", "")
    if own and (status == 404 or code in ("RepoNotFound", "RevisionNotFound", "EntryNotFound")):
        told = ", or it is private: HF_TOKEN says who asks" if status == 401 else ""
        raise RepositoryNotFound(f"the hub has no such repository, revision or file{told}")
    if own and status in (401, 403):
        told = "accept its conditions on its page, and " if code == "GatedRepo" else ""
        raise HubDenied(f"the hub answered {status}: {told}set HF_TOKEN to a token that may read the repository")
    if status == 429:
        raise HubBusy("the hub takes no more requests for now", retry_after=_retry_after(response))
    raise HubError(f"{response.url.host} answered {status}")


def _retry_after(response: aiohttp.ClientResponse) -> float:
    told = response.headers.get("Retry-After", "")
    return min(_LONGEST_WAIT, float(told)) if told.isascii() and told.isdecimal() and len(told) < 8 else 10.0


def _start(response: aiohttp.ClientResponse, file: HubFile, wanted: int) -> int:
    """Where the bytes begin that are coming. Raises HubError where they are not what was asked for."""
    if response.status == 200 and response.content_length in (None, file.size):
        return 0
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status == 206 and match and int(match[1]) == wanted and match[3] in ("*", str(file.size)):
        return wanted
    raise HubError(f"{file.name}: {response.url.host} sends another part, or another file, than it was asked for")


def _strong(response: aiohttp.ClientResponse) -> str | None:
    """Weak ones say nothing about bytes. Source: RFC 9110, 13.1.5."""
    etag = response.headers.get("ETag", "")
    return etag if re.fullmatch(r'"[!#-~]{1,200}"', etag) else None


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    content = b""
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > _LARGEST_DOCUMENT:
            raise HubError(f"the hub's answer is larger than {_LARGEST_DOCUMENT} bytes")
    return content


def is_final(error: GatewayError) -> bool:
    """Whether asking again would be in vain."""
    return isinstance(error, (HubDenied, ChecksumMismatch)) or not isinstance(error, (HubError, HubBusy))
