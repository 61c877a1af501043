"""From the body to the engine and back: what is sent on, and what is written down."""

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient
from yarl import URL

from tests.backends.sites import Site
from tests.gateway import PATIENCE, chat_body, fake_model
from tests.server.conftest import Serve

ECHO = """
import http.server, sys
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("X-Key", self.headers.get("Authorization", ""))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Echo).serve_forever()
"""


async def rows(client: TestClient[Any, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await (await client.get("/api/requests")).json())["requests"]
    return found


async def test_answer_carries_who_answered_and_what_was_waited_for(serve: Serve) -> None:
    client = await serve()
    response = await client.post("/v1/chat/completions", json=chat_body("m"), headers={"X-Request-Id": "r-1"})
    assert response.status == 200
    assert response.headers["x-llamaproxy-model"] == "m"
    assert int(response.headers["x-llamaproxy-load-ms"]) > 0
    assert "X-Fake-Pid" in response.headers, "the engine's own fields pass"
    (row,) = await rows(client)
    assert (row["id"], row["model"], row["endpoint"], row["state"]) == ("r-1", "m", "chat/completions", "ok")
    assert row["bytes_in"] == len(json.dumps(chat_body("m")))
    assert row["bytes_out"] == len(await response.read())


async def test_model_comes_from_body_query_or_path(serve: Serve) -> None:
    client = await serve()
    content = {"content": "one"}
    assert (await client.post("/tokenize", json={**content, "model": "m"})).status == 200
    assert (await client.post("/tokenize?model=m", json=content)).status == 200
    assert (await client.get("/props?model=m")).status == 200
    assert (await client.post("/upstream/m/tokenize", json=content)).status == 200
    assert (await client.get("/upstream/org/n/health")).status == 200
    assert (await client.get("/upstream/org%2Fn/v1/models")).status == 200
    url = f"http://127.0.0.1:{client.port}//upstream//m/health"
    assert (await client.session.get(url)).status == 200
    assert [row["model"] for row in await rows(client)] == ["m", "org/n", "org/n", "m", "m", "m", "m"]


async def test_only_model_needs_no_name(serve: Serve, tmp_path: Path) -> None:
    client = await serve(models={"m": fake_model(tmp_path, "m")})
    assert (await client.post("/v1/completions", json={"prompt": "x"})).status == 200


async def test_base_without_v1_and_sloppy_slashes(serve: Serve) -> None:
    client = await serve()
    for path in ("/chat/completions", "//v1//chat/completions", "/v1/chat/completions/"):
        url = f"http://127.0.0.1:{client.port}{path}"
        assert (await client.session.post(url, json=chat_body("m"))).status == 200


async def test_stream_passes_byte_for_byte(serve: Serve) -> None:
    client = await serve()
    response = await client.post("/v1/chat/completions", json={**chat_body("m"), "stream": True})
    body = await response.read()
    assert response.content_type == "text/event-stream"
    assert body.endswith(b"data: [DONE]\n\n")
    (row,) = await rows(client)
    assert row["stream"]
    assert len(body) < row["bytes_out"] < 2 * len(body), "as it was sent, in chunks"


async def test_rejected_requests_have_rows_too(serve: Serve) -> None:
    client = await serve()
    await client.post("/v1/chat/completions", json=chat_body("nobody"))
    await client.post("/v1/chat/completions", data=b"{")
    found = [(row["state"], row["status"], row["error"], row["model"]) for row in await rows(client)]
    assert found == [("rejected", 400, "invalid_json", None), ("rejected", 404, "model_not_found", None)]


async def test_engine_errors_pass_as_they_are(serve: Serve) -> None:
    client = await serve()
    response = await client.post("/v1/embeddings", json={"model": "m", "input": "x"})
    assert response.status == 501
    assert (await response.json())["error"]["type"] == "not_supported_error"
    (row,) = await rows(client)
    assert (row["status"], row["error"]) == (501, None), "the error is the engine's own"


@pytest.mark.parametrize("path", ["/v1/messages", "/upstream/m/v1/messages"])
async def test_clients_mistakes_that_engines_take_for_their_own_do_not_reach_them(serve: Serve, path: str) -> None:
    client = await serve(breaker={"request_failures": 1})
    for _ in range(2):
        response = await client.post(path, json={"model": "m"})
        assert response.status == 400
        assert (await response.json())["error"]["type"] == "invalid_request_error"
    response = await client.post(path, json={**chat_body("m"), "max_tokens": 1})
    assert response.status == 200


async def test_body_that_does_not_arrive_is_a_timeout(serve: Serve) -> None:
    client = await serve(server={"body_timeout": "100ms"})
    release = asyncio.Event()

    async def stuck() -> Any:
        yield b"{"
        await release.wait()

    response = await client.post("/v1/completions", data=stuck())
    release.set()
    assert response.status == 408
    assert (await response.json())["error"]["code"] == "request_timeout"


async def test_engine_that_never_answers_is_a_timeout_of_its_own(serve: Serve, tmp_path: Path) -> None:
    models = {"m": fake_model(tmp_path, "m", env={"FAKE_HANG_BEFORE_FIRST_BYTE": "1"})}
    client = await serve(models=models, engine={"first_byte_timeout": "200ms"})
    response = await client.post("/v1/chat/completions", json=chat_body("m"))
    assert (response.status, (await response.json())["error"]["code"]) == (504, "upstream_stalled")
    (row,) = await rows(client)
    assert (row["state"], row["error"]) == ("upstream_error", "upstream_stalled")


async def test_what_an_abandoned_stream_had_sent_is_counted(serve: Serve, tmp_path: Path) -> None:
    client = await serve(models={"m": fake_model(tmp_path, "m", env={"FAKE_TOKEN_SECONDS": "0.02"})})
    response = await client.post("/v1/chat/completions", json={**chat_body("m"), "stream": True, "max_tokens": 1000})
    received = await response.content.readuntil(b"word2")
    response.close()
    async with asyncio.timeout(PATIENCE):
        while (row := (await rows(client))[0])["state"] == "in_flight":
            await client.get("/health")
    assert (row["state"], row["error"]) == ("client_abort", None)
    assert row["bytes_out"] >= len(received)


async def test_what_a_broken_stream_had_sent_is_counted_with_its_error(serve: Serve, tmp_path: Path) -> None:
    env = {"FAKE_DIE_AFTER_TOKENS": "3", "FAKE_TOKEN_SECONDS": "0.01"}
    client = await serve(models={"m": fake_model(tmp_path, "m", env=env)})
    response = await client.post("/v1/chat/completions", json={**chat_body("m"), "stream": True})
    received = b""
    with pytest.raises(aiohttp.ClientPayloadError):
        async for part in response.content.iter_any():
            received += part
    (row,) = await rows(client)
    assert (row["state"], row["error"]) == ("truncated", "bad_upstream_response")
    assert len(received) <= row["bytes_out"] < 1.1 * len(received)


async def test_engine_that_is_killed_under_every_try_is_given_up(serve: Serve, tmp_path: Path) -> None:
    models = {"m": fake_model(tmp_path, "m", env={"FAKE_DIE_BEFORE_FIRST_BYTE_TIMES": "100"})}
    client = await serve(models=models, breaker={"request_failures": 100})
    response = await client.post("/v1/chat/completions", json=chat_body("m"))
    assert (response.status, (await response.json())["error"]["code"]) == (503, "model_unavailable")
    (row,) = await rows(client)
    assert row["replays"] == 6


class TestOtherServers:
    """What a server that is not ours gets to see."""

    CHAT = "/v1/chat/completions"

    @pytest.fixture
    async def site(self) -> AsyncIterator[Site]:
        async with Site("/team").open() as site:
            site.statuses |= {f"/team{path}": 200 for path in (self.CHAT, "/props", "/any/thing")}
            yield site

    @pytest.fixture
    async def client(self, serve: Serve, site: Site) -> TestClient[Any, Any]:
        remote = {"url": site.url + "/v1", "api_key": "hunter2", "upstream_name": "org/Real", "aliases": ["alias"]}
        return await serve(models={"far": remote, "plain": {"url": site.url}})

    async def test_its_own_name_for_the_model_and_all_else_as_it_was(self, client: TestClient[Any, Any]) -> None:
        for name in ("far", "alias"):
            body = f'{{"seed": 12345678901234567890123, "model" : "{name}", "t": 1.0e0}}'
            said = await (await client.post(self.CHAT, data=body)).json()
            assert said["body"] == body.replace(f'"{name}"', '"org/Real"')
            assert said["path"] == "/team/v1/chat/completions"

    async def test_the_model_is_added_where_only_the_query_named_it(self, client: TestClient[Any, Any]) -> None:
        said = await (await client.post(f"{self.CHAT}?model=alias&a=b", data=b'{"n":1}')).json()
        assert (said["path"], said["body"]) == (
            "/team/v1/chat/completions?model=org%2FReal&a=b",
            '{"model":"org/Real","n":1}',
        )
        said = await (await client.get("/props?model=far")).json()
        assert said["path"] == "/team/props?model=org%2FReal"

    async def test_without_a_name_there_it_is_its_name_here(self, client: TestClient[Any, Any]) -> None:
        said = await (await client.post(self.CHAT, json={"model": "plain"})).json()
        assert json.loads(said["body"]) == {"model": "plain"}
        assert "Authorization" not in said["headers"]

    @pytest.mark.parametrize("header", ["Authorization", "X-Api-Key"])
    async def test_the_configured_key_and_never_the_clients(self, client: TestClient[Any, Any], header: str) -> None:
        headers = {"Authorization": "Bearer mine", "X-Api-Key": "mine", "Cookie": "a=mine"}
        said = await (await client.post(self.CHAT, json={"model": "far"}, headers=headers)).json()
        assert "mine" not in json.dumps(said["headers"])
        assert "hunter2" in said["headers"][header]

    async def test_what_it_says_is_not_said_for_the_gateway(self, client: TestClient[Any, Any], site: Site) -> None:
        site.says = {"Set-Cookie": "a=b", "Access-Control-Allow-Origin": "*", "Server": "x", "x-llamaproxy-model": "x"}
        response = await client.post(self.CHAT, json={"model": "far"})
        assert not {"Set-Cookie", "Access-Control-Allow-Origin"} & set(response.headers)
        assert (response.headers["Server"], response.headers["x-llamaproxy-model"]) == ("llamaproxy", "far")

    async def test_below_upstream_known_routes_get_the_name_and_others_pass(self, client: TestClient[Any, Any]) -> None:
        said = await (await client.post(f"/upstream/far{self.CHAT}", json={"model": "far"})).json()
        assert json.loads(said["body"]) == {"model": "org/Real"}
        said = await (await client.post("/upstream/far/any/thing?model=x", data=b"no json")).json()
        assert (said["path"], said["body"]) == ("/team/any/thing?model=x", "no json")
        assert (await client.post(f"/upstream/far{self.CHAT}", data=b"no json")).status == 400

    async def test_nobody_gets_out_of_its_address(self, client: TestClient[Any, Any], site: Site) -> None:
        for path in ("..%2f..%2fadmin", "x/%2e%2e/%2E%2e/admin"):
            url = URL(f"http://127.0.0.1:{client.port}/upstream/far/{path}", encoded=True)
            assert (await client.session.get(url)).status == 400
        assert set(site.asked) <= {"/team/health"}

    async def test_a_form_gets_the_name_too(self, client: TestClient[Any, Any], site: Site) -> None:
        site.statuses["/team/v1/audio/transcriptions"] = 200
        form = aiohttp.FormData({"model": "alias", "file": io.BytesIO(b"RIFF")})
        said = await (await client.post("/v1/audio/transcriptions", data=form)).json()
        assert 'name="model"\r\n\r\norg/Real\r\n' in said["body"]
        assert "RIFF" in said["body"]

    async def test_a_command_hears_its_own_name_too(self, serve: Serve) -> None:
        command = [sys.executable, "-S", "-c", ECHO, "${port}"]
        client = await serve(models={"own": {"command": command, "aliases": ["alias"], "health_path": "/"}})
        response = await client.post(self.CHAT, data=b'{"model":"alias"}')
        assert await response.read() == b'{"model":"own"}'
        assert response.headers["X-Key"].startswith("Bearer ")


class TestParameters:
    """What a model's configuration puts into requests, and takes out."""

    CHAT = "/v1/chat/completions"
    OURS = {"set_params": {"temperature": 0, "x": {"y": [1]}}, "strip_params": ["top_k", "seed"]}  # noqa: RUF012 - nobody changes it

    @pytest.fixture
    async def client(self, serve: Serve) -> AsyncIterator[TestClient[Any, Any]]:
        async with Site().open() as site:
            site.statuses |= dict.fromkeys((self.CHAT, "/any/thing", "/v1/audio/transcriptions"), 200)
            yield await serve(models={"far": {"url": site.url, **self.OURS}})

    async def test_they_change_and_no_other_byte_does(self, client: TestClient[Any, Any]) -> None:
        body = b'{"model":"far", "top_k" : 5, "temperature":1.0, "n":1.10, "seed":1}'
        for path in (self.CHAT, f"/upstream/far{self.CHAT}"):
            said = await (await client.post(path, data=body)).json()
            assert said["body"] == '{"x":{"y":[1]},"model":"far", "temperature":0, "n":1.10}'

    async def test_elsewhere_nothing_does(self, client: TestClient[Any, Any]) -> None:
        said = await (await client.post("/upstream/far/any/thing", data=b'{"top_k":5}')).json()
        assert said["body"] == '{"top_k":5}'
        form = aiohttp.FormData({"top_k": "5", "file": io.BytesIO(b"RIFF")})
        said = await (await client.post("/v1/audio/transcriptions", data=form)).json()
        assert 'name="top_k"' in said["body"]
        assert 'name="x"' not in said["body"]

    async def test_our_own_engine_gets_them_too(self, serve: Serve, tmp_path: Path) -> None:
        models = {"m": fake_model(tmp_path, "m", set_params={"max_tokens": 3})}
        client = await serve(models=models)
        for path in (self.CHAT, f"/upstream/m{self.CHAT}"):
            answer = await (await client.post(path, json={**chat_body("m"), "max_tokens": 7})).json()
            assert answer["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("path", ["/slots/0?action=save&model=m", "/upstream/m/slots/0?action=restore"])
async def test_clients_write_no_slot_files_where_the_gateway_keeps_its_own(serve: Serve, path: str) -> None:
    client = await serve()
    response = await client.post(path, json={"filename": "mine"})
    assert (response.status, (await response.json())["error"]["param"]) == (400, "action")
    assert (await client.post("/slots/0?action=erase&model=m", json={})).status == 200
    # llama-server reads parameters out of a form, too, and believes them before those of the query.
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b'{"filename":"mine","z":"&action=save&"}'
    erased = await client.post("/slots/0?action=erase&model=m", data=body, headers=form)
    assert erased.status == 200
    assert "n_written" not in await erased.text()
