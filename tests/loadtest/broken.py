"""A server that does what the model is called, for tests of the load test."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

USAGE = {"prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 14}
TOKEN = b'data: {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": null}]}\n\n'
END = b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\ndata: [DONE]\n\n"


class Broken:
    """`asked` are the bodies that came, `keys` what was shown; `arrived` is set by the first that hangs."""

    def __init__(self, *models: str) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.arrived = asyncio.Event()
        self.at_once = self.most_at_once = 0
        self._models = models
        self._count = itertools.count()
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Broken"]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._list)
        async with TestServer(app) as server:
            self.url = str(server.make_url("")).rstrip("/")
            yield self

    async def _list(self, request: web.Request) -> web.Response:
        self.keys.add(request.headers.get("Authorization"))
        return web.json_response({"data": [{"id": name} for name in self._models]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.keys.add(request.headers.get("Authorization"))
        body = await request.json()
        self.asked.append(body)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._answer(request, body)
        finally:
            self.at_once -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        model = body["model"]
        if model == "every-other":
            model = "fails" if next(self._count) % 2 else "good"
        if model == "second-hangs":
            model = "hangs" if next(self._count) else "good"
        match model:
            case "hangs":
                self.arrived.set()
                await asyncio.Event().wait()
            case "fails":
                return web.json_response({"error": {"code": "upstream_error"}}, status=500)
            case "denied":
                return web.json_response({"error": {"code": "invalid_api_key"}}, status=401)
            case "elsewhere":
                return web.Response(status=307, headers={"Location": "/v1/chat/completions"})
            case "resets":
                assert request.transport
                request.transport.abort()
        if not body["stream"]:
            return web.json_response({"choices": [{"message": {"content": "x"}}], "usage": USAGE})
        return await self._stream(request, model)

    async def _stream(self, request: web.Request, model: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(TOKEN)
        if model == "cut":
            assert request.transport
            request.transport.abort()
        elif model == "endless":
            await asyncio.Event().wait()
        else:
            await response.write(TOKEN + (b"data: [DONE]\n\n" if model == "countless" else END))
        return response
