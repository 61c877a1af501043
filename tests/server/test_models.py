"""llamaproxy.server.models: what operators see of models, and what they can do to them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from llamaproxy.backends.carrier import Carrier
from llamaproxy.backends.command import Address
from llamaproxy.backends.pool import Pool
from llamaproxy.backends.spawn import Spawn
from llamaproxy.config import Config, KvConfig
from llamaproxy.configfile import Fixed
from llamaproxy.core.footprint import Footprint
from llamaproxy.core.routing import Dialect
from llamaproxy.core.states import BackendState
from llamaproxy.errors import GatewayError, ModelStartFailed
from llamaproxy.models.catalogue import Catalogue, Model
from llamaproxy.models.headers import Headers
from llamaproxy.server import posted
from llamaproxy.server.answers import error_response
from llamaproxy.server.current import Current
from llamaproxy.server.loaded import load
from llamaproxy.server.models import Models
from llamaproxy.server.reload import Reloader
from llamaproxy.telemetry.history import History
from llamaproxy.telemetry.modelhistory import ModelHistory
from tests.gateway import PATIENCE, chat_body, fake_model
from tests.models.ggufs import write as write_model
from tests.server.conftest import Serve

Client = TestClient[web.Request, web.Application]
Answer = tuple[int, Any]

CONFIG = Config.model_validate(
    {
        "telemetry": {"database": "off"},
        "models": {"qwen": {"path": "/q.gguf", "aliases": ["gpt-4o"], "pinned": True}, "llama": {"path": "/l.gguf"}},
    }
)


class Room:
    """The handlers with what they look at; models whose start is asked for are noted, and do not start."""

    def __init__(self) -> None:
        self.wanted: list[str] = []
        self.pool = Pool(CONFIG.models, CONFIG, self._launch)
        catalogue = Catalogue(Model(name, model, "configured") for name, model in CONFIG.models.items())
        current = Current(CONFIG, catalogue)
        reloader = Reloader(Fixed(CONFIG), lambda loaded, changes: None, load(CONFIG))
        carrier = Carrier(KvConfig(carry=False), CONFIG.engine)
        self.headers = Headers()
        past = ModelHistory(History(CONFIG.telemetry))
        self.expected: dict[str, Footprint] = {}
        self.models = Models(current, self.pool, reloader, carrier, self.headers, past, expected=self.expected.get)

    def details(self, name: str) -> Any:
        body = self.models.details(name).body
        assert isinstance(body, bytes)
        return json.loads(body)

    def _launch(self, name: str, number: int) -> Spawn:
        self.wanted.append(name)
        raise ModelStartFailed(f"{name}: not here")

    def application(self) -> web.Application:
        app = web.Application(middlewares=[_errors], client_max_size=posted.LARGEST * 2)
        app.router.add_get("/api/models", self.models.page)
        app.router.add_post("/models/load", self.models.load)
        app.router.add_post("/models/unload", self.models.unload)
        return app


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except GatewayError as error:
        return error_response(error, Dialect.OPENAI)


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    made = Room()
    yield made
    await made.pool.stop_all()


@pytest.fixture
async def client(room: Room, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(room.application())


async def get(client: Client, path: str) -> Answer:
    async with client.get(path) as response:
        return response.status, await response.json()


async def post(client: Client, path: str, body: bytes, content_type: str = "application/json") -> Answer:
    async with client.post(path, data=body, headers={"Content-Type": content_type}) as response:
        return response.status, await response.json()


def code(answer: Answer) -> tuple[int, str]:
    return answer[0], answer[1]["error"]["code"]


class TestDetails:
    def test_memory_is_estimated_before_the_first_start(self, room: Room) -> None:
        room.expected["qwen"] = Footprint(7, (9,))
        assert room.details("qwen")["footprint"] == {"ram": 7, "devices": [9], "measured": False}
        assert room.details("llama")["footprint"] is None

    def test_what_is_known_goes_before_what_is_expected(self, room: Room) -> None:
        room.expected["qwen"] = Footprint(7)
        backend = room.pool.backends["qwen"]
        backend.footprint, backend.measured = Footprint(8), True
        assert room.details("qwen")["footprint"] == {"ram": 8, "devices": [], "measured": True}


class TestModels:
    async def test_a_model_that_does_not_run(self, client: Client, room: Room) -> None:
        status, answer = await get(client, "/api/models")
        assert (status, [model["name"] for model in answer["models"]]) == (200, ["qwen", "llama"])
        assert answer["models"][0] == {
            "name": "qwen",
            "aliases": ["gpt-4o"],
            "description": "",
            "source": "configured",
            "kind": "path",
            "path": "/q.gguf",
            "url": None,
            "size": None,
            "quantisation": None,
            "context": None,
            "endpoint": "/upstream/qwen/v1",
            "state": "stopped",
            "pid": None,
            "port": None,
            "uptime": None,
            "idle": None,
            "starting_for": None,
            "ttl": None,
            "in_flight": 0,
            "queued": 0,
            "latency_ms": None,
            "pinned": True,
            "starts": 0,
            "load_seconds": None,
            "footprint": None,
            "breaker": {"state": "closed", "reason": ""},
            "retry_in": None,
            "last_failure": None,
            "kv": {
                "carry": False,
                "reason": "switched off in the configuration",
                "saved_tokens": 0,
                "restored_tokens": 0,
            },
            "leaving": None,
            "successor": None,
            "version": None,
            "log": None,
        }
        assert not room.wanted

    async def test_what_its_file_says_as_far_as_it_was_read(self, client: Client, room: Room, tmp_path: Path) -> None:
        file = tmp_path / "q.gguf"
        write_model(file, context_length=4096)
        info = room.headers.get(file)
        room.headers._known[Path("/q.gguf")] = room.headers._known[file]
        qwen, llama = (await get(client, "/api/models"))[1]["models"]
        assert (qwen["size"], qwen["quantisation"]) == (info.file_size, info.quantisation)
        assert qwen["context"] == 4096
        assert (llama["size"], llama["quantisation"], llama["context"]) == (None, None, None)

    async def test_how_long_nobody_has_used_it(self, client: Client, room: Room) -> None:
        qwen, llama = room.pool.backends["qwen"], room.pool.backends["llama"]
        qwen.state = llama.state = BackendState.READY
        qwen.idle_since = time.monotonic() - 30
        llama.add_lease("r1", light=False)
        shown = (await get(client, "/api/models"))[1]["models"]
        assert shown[0]["idle"] >= 30
        assert shown[1]["idle"] is None

    async def test_a_model_that_runs(self, client: Client, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        upstream = SimpleNamespace(address=Address(port=9001))
        running = SimpleNamespace(pid=4711, started_at=time.monotonic() - 90, upstream=upstream)
        monkeypatch.setattr(room.pool, "running", lambda name: running if name == "qwen" else None)
        backend = room.pool.backends["qwen"]
        backend.state = BackendState.READY
        backend.add_lease("r1", light=False)
        qwen, llama = (await get(client, "/api/models"))[1]["models"]
        assert (qwen["state"], qwen["pid"], qwen["port"], qwen["in_flight"]) == ("ready", 4711, 9001, 1)
        assert 90 <= qwen["uptime"] < 100
        assert llama["pid"] is None
        backend.end_lease("r1", 0)
        backend.gone(0)

    async def test_a_model_that_fails(self, client: Client, room: Room) -> None:
        for _ in range(3):
            room.pool.backends["llama"].breaker.start_failed(time.monotonic(), "<b>exit 1</b>")
        model = (await get(client, "/api/models"))[1]["models"][1]
        assert model["breaker"] == {"state": "open", "reason": "<b>exit 1</b>"}
        assert model["last_failure"] == {"reason": "<b>exit 1</b>", "output": None}


class TestLoadAndUnload:
    async def test_load_starts_by_name_and_by_alias(self, client: Client, room: Room) -> None:
        assert await post(client, "/models/load", b'{"model": "llama"}') == (200, {"success": True})
        assert await post(client, "/models/load", b'{"model": "gpt-4o"}') == (200, {"success": True})
        assert room.wanted == ["llama", "qwen"]

    async def test_unload_stops(self, client: Client, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        stopped: list[str] = []
        monkeypatch.setattr(room.pool, "stop", stopped.append)
        assert await post(client, "/models/unload", b'{"model": "gpt-4o", "more": 1}') == (200, {"success": True})
        assert (stopped, room.wanted) == (["qwen"], [])

    async def test_unloading_what_does_not_run_is_no_fault(self, client: Client, room: Room) -> None:
        assert await post(client, "/models/unload", b'{"model": "qwen"}') == (200, {"success": True})
        assert room.pool.backends["qwen"].state is BackendState.STOPPED

    @pytest.mark.parametrize("path", ["/models/load", "/models/unload"])
    @pytest.mark.parametrize(
        "content_type",
        [
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "text/plain",
            "application/octet-stream",
            "text/json",
        ],
    )
    async def test_what_a_form_can_send_is_refused(
        self, path: str, content_type: str, client: Client, room: Room
    ) -> None:
        answer = await post(client, path, b'{"model": "qwen"}', content_type)
        assert code(answer) == (415, "unsupported_media_type")
        assert not room.wanted

    async def test_json_may_name_its_charset(self, client: Client) -> None:
        assert (await post(client, "/models/load", b'{"model": "qwen"}', "application/json; charset=utf-8"))[0] == 200

    @pytest.mark.parametrize(
        ("body", "told"),
        [
            (b"", "invalid_json"),
            (b"{", "invalid_json"),
            (b'{"model": "\xff"}', "invalid_json"),
            (b'{"model": NaN}', "invalid_json"),
            (b"[" * 60_000, "invalid_json"),
            (b"null", "invalid_request"),
            (b'"qwen"', "invalid_request"),
            (b'["model"]', "invalid_request"),
            (b"{}", "invalid_request"),
            (b'{"model": null}', "invalid_request"),
            (b'{"model": ["qwen"]}', "invalid_request"),
            (b'{"model": 5}', "invalid_request"),
        ],
        ids=lambda value: repr(value)[:24],
    )
    async def test_bad_bodies(self, body: bytes, told: str, client: Client, room: Room) -> None:
        assert code(await post(client, "/models/load", body)) == (400, told)
        assert not room.wanted

    @pytest.mark.parametrize(
        "name", ["", "qwne", "../../etc/passwd", "a\\r\\nX: 1", "\\u0000", "\\u001b[31m", "x" * 10_000]
    )
    async def test_bad_names(self, name: str, client: Client, room: Room) -> None:
        answer = await post(client, "/models/load", f'{{"model": "{name}"}}'.encode())
        assert code(answer) == (404, "model_not_found")
        assert answer[1]["error"]["message"].isprintable()
        assert not room.wanted

    async def test_a_body_is_small(self, client: Client) -> None:
        padding = b" " * posted.LARGEST
        assert code(await post(client, "/models/load", b'{"model": "qwen"}' + padding)) == (413, "request_too_large")

    async def test_a_body_of_unknown_length_is_bounded_too(self, client: Client, room: Room) -> None:
        async def endless() -> AsyncIterator[bytes]:
            for _ in range(64):
                yield b" " * posted.LARGEST

        headers = {"Content-Type": "application/json"}
        async with client.post("/models/load", data=endless(), headers=headers) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (413, "request_too_large")
        assert not room.wanted

    async def test_a_body_that_does_not_come(self, client: Client, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(posted, "_TIMEOUT", 0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        head = "POST /models/load HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        writer.write(head.encode())
        try:
            assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 408 ")
        finally:
            writer.close()
        assert not room.wanted


class TestCommands:
    """On the whole gateway."""

    async def tell(self, client: TestClient[Any, Any], name: str, verb: str) -> dict[str, Any]:
        response = await client.post(f"/api/models/{name}/{verb}", json={})
        assert response.status == 200, await response.text()
        told: dict[str, Any] = await response.json()
        return told

    async def becomes(self, client: TestClient[Any, Any], name: str, **wanted: Any) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while True:
            shown: dict[str, Any] = await (await client.get(f"/api/models/{name}")).json()
            if wanted.items() <= shown.items():
                return shown
            assert time.monotonic() < end, shown
            await asyncio.sleep(0.005)

    async def test_start_restart_and_stop_by_name_alias_and_any_spelling(self, serve: Serve, tmp_path: Path) -> None:
        client = await serve(models={"org/n": fake_model(tmp_path, "n", aliases=["gpt"])})
        shown = await self.tell(client, "org/n", "start")
        assert (shown["state"], shown["starting_for"] is not None) == ("starting", True)
        first = await self.becomes(client, "org%2Fn", state="ready")
        assert (await self.tell(client, "gpt", "restart"))["state"] == "stopping"
        second = await self.becomes(client, "gpt", state="ready", starts=2)
        assert second["pid"] != first["pid"]
        assert (await self.tell(client, "org%2fn", "stop"))["leaving"] == "requested"
        assert (await self.becomes(client, "org/n", state="stopped"))["uptime"] is None

    async def test_a_pin_protects_until_the_next_reload(self, serve: Serve) -> None:
        client = await serve(limits={"models_max": 1})
        assert (await self.tell(client, "m", "pin"))["pinned"]
        await self.tell(client, "m", "start")
        await self.becomes(client, "m", state="ready", pinned=True)
        response = await client.post("/v1/chat/completions", json=chat_body("org/n"))
        assert (response.status, (await response.json())["error"]["code"]) == (503, "model_unavailable")
        assert (await (await client.get("/api/models/m")).json())["origins"]["pinned"] == "runtime"
        assert not (await self.tell(client, "m", "unpin"))["pinned"]
        assert (await client.post("/v1/chat/completions", json=chat_body("org/n"))).status == 200
        await self.tell(client, "m", "pin")
        assert (await client.post("/api/reload", json={})).status == 200
        assert not (await self.becomes(client, "m"))["pinned"]

    async def test_a_breaker_that_is_reset_lets_the_next_request_try(self, serve: Serve, tmp_path: Path) -> None:
        env = {"FAKE_EXIT_AT_START": "1", "FAKE_EXIT_AT_START_TIMES": "1"}
        client = await serve(models={"m": fake_model(tmp_path, "m", env=env)}, breaker={"start_failures": 1})
        assert (await client.post("/v1/chat/completions", json=chat_body("m"))).status == 503
        shown = await self.becomes(client, "m", state="stopped")
        assert (shown["breaker"]["state"], shown["last_failure"]["reason"] != "") == ("open", True)
        assert 0 < shown["retry_in"] <= Config().breaker.open
        shown = await self.tell(client, "m", "reset-breaker")
        assert (shown["breaker"]["state"], shown["retry_in"]) == ("closed", None)
        assert (await client.post("/v1/chat/completions", json=chat_body("m"))).status == 200

    async def test_what_cannot_be_started_is_told(self, serve: Serve) -> None:
        client = await serve(models={"gone": {"path": "/gone.gguf"}})
        for verb in ("start", "restart"):
            response = await client.post("/api/models/gone/" + verb, json={})
            assert (response.status, (await response.json())["error"]["code"]) == (503, "model_start_failed")

    async def test_what_is_served_elsewhere_is_not_pinned(self, serve: Serve) -> None:
        client = await serve(models={"far": {"url": "http://127.0.0.1:9"}})
        response = await client.post("/api/models/far/pin", json={})
        assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_request")

    async def test_the_nearest_is_named(self, serve: Serve) -> None:
        client = await serve()
        for method, path in (("GET", "/api/models/org/m"), ("POST", "/api/models/org/m/start")):
            response = await client.request(method, path, json={})
            error = (await response.json())["error"]
            assert (response.status, error["code"]) == (404, "model_not_found")
            assert "org/n" in error["message"]


class TestPast:
    async def test_a_swap_says_who_went_for_whom_and_why(self, serve: Serve) -> None:
        client = await serve(limits={"models_max": 1})
        for model in ("m", "org/n"):
            async with client.post("/v1/chat/completions", json=chat_body(model)) as response:
                assert response.status == 200
        async with client.get("/api/models/history?range=5m") as response:
            past = await response.json()
        assert past["range"] == "5m"
        assert past["to"] - past["from"] == pytest.approx(300)
        states = [(event["state"], event["reason"]) for event in past["models"]["m"]]
        assert states == [
            ("stopped", None),
            ("starting", None),
            ("ready", None),
            ("stopping", "evicted"),
            ("stopped", "evicted"),
        ]
        assert past["models"]["m"][3]["text"] == "evicted for org/n: no other was idle"
        assert past["models"]["m"][2]["seconds"] > 0
        assert past["models"]["org/n"][-1]["state"] == "ready"

    async def test_only_ranges_that_exist(self, serve: Serve) -> None:
        client = await serve()
        async with client.get("/api/models/history?range=2d") as response:
            assert response.status == 400
            assert (await response.json())["error"]["param"] == "range"
