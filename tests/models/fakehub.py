"""A hub of our own that behaves as huggingface.co does, and fails in the ways that it can.

Two servers: the hub, which describes repositories and redirects to where files are stored, and the storage, another
host to its clients. `tests/models/test_hub.py` asks huggingface_hub whether it takes this for the hub.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

COMMIT = "c0ffee" + "0" * 34
TOKEN = "hf_0123456789abcdef"
REPOSITORY = "org/Tiny-GGUF"


@dataclass
class Seen:
    """One request, as it came."""

    server: str
    method: str
    path: str
    headers: dict[str, str]


@dataclass
class FakeHub:
    """`files` by path; `storage` may answer a request in the place of the storage: it gets the file's path."""

    files: dict[str, bytes] = field(default_factory=dict)
    commit: str = COMMIT
    gated: bool = False
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the description says of a file in the place of the truth; names that are no files are added."""
    storage: Callable[[str, web.Request], Any] | None = None
    refusals: list[web.Response] = field(default_factory=list)
    """Answers that the hub gives first."""
    etag: str = '"v1"'
    seen: list[Seen] = field(default_factory=list)
    endpoint: str = ""
    _other: str = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeHub"]:
        hub, storage = web.Application(client_max_size=0), web.Application()
        hub.router.add_get("/api/models/{owner}/{repo}", self._describe)
        hub.router.add_get("/api/models/{owner}/{repo}/revision/{revision}", self._describe)
        hub.router.add_get("/{owner}/{repo}/resolve/{revision}/{path:.+}", self._resolve)
        storage.router.add_get("/{path:.+}", self._store)
        async with TestServer(hub) as front, TestServer(storage) as back:
            self.endpoint = str(front.make_url("")).rstrip("/")
            self._other = str(back.make_url("")).rstrip("/")
            yield self

    def of(self, server: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.server == server]

    def ranges(self) -> list[str]:
        return [seen.headers.get("Range", "") for seen in self.of("storage")]

    def _note(self, server: str, request: web.Request) -> None:
        self.seen.append(Seen(server, request.method, request.path, dict(request.headers)))

    def _refusal(self, request: web.Request) -> web.Response | None:
        self._note("hub", request)
        if self.refusals:
            return self.refusals.pop(0)
        if self.gated and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"error": "gated"}, status=401, headers={"X-Error-Code": "GatedRepo"})
        if f"{request.match_info['owner']}/{request.match_info['repo']}" != REPOSITORY:
            return web.json_response({"error": "none"}, status=401, headers={"X-Error-Code": "RepoNotFound"})
        return None

    async def _describe(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        siblings = [{"rfilename": "README.md", "size": 3, "blobId": "0" * 40}]
        siblings += [
            self._sibling(path) for path in [*self.files, *(path for path in self.told if path not in self.files)]
        ]
        return web.json_response({"id": REPOSITORY, "modelId": REPOSITORY, "sha": self.commit, "siblings": siblings})

    def _sibling(self, path: str) -> dict[str, Any]:
        content = self.files.get(path, b"")
        lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return {"rfilename": path, "size": len(content), "blobId": "0" * 40, "lfs": lfs, **self.told.get(path, {})}

    async def _resolve(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        if refusal := self._refusal(request):
            return refusal
        if path not in self.files:
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound"})
        told = hashlib.sha256(self.files[path]).hexdigest()
        headers = {
            "Location": f"{self._other}/{path}?Signature=x%2Fy",
            "X-Repo-Commit": self.commit,
            "X-Linked-Etag": f'"{told}"',
            "X-Linked-Size": str(len(self.files[path])),
        }
        return web.Response(status=302, headers=headers)

    async def _store(self, request: web.Request) -> web.StreamResponse:
        self._note("storage", request)
        path = request.match_info["path"]
        if self.storage:
            told = self.storage(path, request)
            answer: web.StreamResponse | None = await told if asyncio.iscoroutine(told) else told
            if answer is not None:
                return answer
        return self.part(path, request)

    def part(self, path: str, request: web.Request) -> web.Response:
        """What a storage answers that has nothing to hide."""
        content, span = self.files[path], request.http_range
        fields = {"ETag": self.etag, "Accept-Ranges": "bytes"}
        wanted = request.headers.get("If-Range", self.etag) == self.etag
        if request.headers.get("Range") and wanted:
            start, stop = span.start or 0, min(span.stop or len(content), len(content))
            fields["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            return web.Response(status=206, body=content[start:stop], headers=fields)
        return web.Response(body=content, headers=fields)


async def broken(request: web.Request, content: bytes, start: int, after: int, whole: int) -> web.StreamResponse:
    """An answer whose connection breaks after some of its bytes."""
    response = web.StreamResponse(status=206, headers={"Content-Range": f"bytes {start}-{whole - 1}/{whole}"})
    response.content_length = whole - start
    await response.prepare(request)
    await response.write(content[start : start + after])
    assert request.transport
    request.transport.close()
    return response
