"""llamaproxy.server.routes: from a path to its handler, and what holds for every answer."""

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, make_mocked_request
from pydantic import BaseModel
from pytest_aiohttp.plugin import AiohttpClient

from llamaproxy.errors import InvalidRequest, MethodNotAllowed, NotFound, Unavailable
from llamaproxy.server.answers import json_response
from llamaproxy.server.routes import Route, Routes

Client = TestClient[web.Request, web.Application]


class Order(BaseModel):
    size: int


def route(method: str, path: str, **more: Any) -> Route:
    """A route whose answer says what it is, and what it was given."""

    async def handler(request: web.Request, *given: Any) -> web.Response:
        return json_response([f"{method} {path}", *(g.size if isinstance(g, Order) else g for g in given)])

    return Route(method, path, more.pop("handler", handler), "Title", list[Any], **more)


async def _fails(request: web.Request) -> web.Response:
    raise Unavailable("not now")


async def _stored(request: web.Request) -> web.Response:
    return json_response({}, headers={"Cache-Control": "max-age=60"})


ROUTES = Routes(
    [
        route("GET", "/api/m/{name}"),
        route("DELETE", "/api/m/{name}"),
        route("GET", "/api/m"),
        route("POST", "/api/m/{name}/start"),
        route("PATCH", "/api/order", body=Order),
        route("GET", "/api/m/special"),
        route("GET", "/api/fails", handler=_fails),
        route("GET", "/api/stored", handler=_stored),
    ]
)


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> Client:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", ROUTES.serve)
    return await aiohttp_client(app)


async def ask(client: Client, method: str, path: str, **more: Any) -> tuple[int, Any]:
    # The path goes out as it is spelled here.
    url = client.make_url("/").with_path(path, encoded=True)
    async with client.session.request(method, url, **more) as response:
        return response.status, await response.json() if method != "HEAD" else await response.read()


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("GET", "/api/m", ["GET /api/m"]),
        ("GET", "//api//m/", ["GET /api/m"]),
        ("GET", "/%61pi/m", ["GET /api/m"]),
        ("GET", "/api/m/special", ["GET /api/m/special"]),
        ("GET", "/api/m/q", ["GET /api/m/{name}", "q"]),
        ("GET", "/api/m/org/q", ["GET /api/m/{name}", "org/q"]),
        ("GET", "/api/m/org%2Fq", ["GET /api/m/{name}", "org/q"]),
        ("GET", "/api/m/q%20%C3%BC%25", ["GET /api/m/{name}", "q \u00fc%"]),
        ("DELETE", "/api/m/q", ["DELETE /api/m/{name}", "q"]),
        ("POST", "/api/m/org/q/start", ["POST /api/m/{name}/start", "org/q"]),
        ("POST", "/api/m/org%2Fq/start", ["POST /api/m/{name}/start", "org/q"]),
        ("POST", "/api/m/start/start", ["POST /api/m/{name}/start", "start"]),
        ("GET", "/api/m/q%2Fstart", ["GET /api/m/{name}", "q/start"]),
        ("PATCH", "/api/order", ["PATCH /api/order", 5]),
    ],
)
async def test_what_is_served(client: Client, method: str, path: str, answer: list[Any]) -> None:
    given = {"json": {"size": 5} if method == "PATCH" else {}} if method in ("POST", "PATCH") else {}
    assert await ask(client, method, path, **given) == (200, answer)


async def test_head_is_a_get_without_its_body(client: Client) -> None:
    assert await ask(client, "HEAD", "/api/m/q") == (200, b"")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/api/m", "GET, HEAD"),
        ("PUT", "/api/m/q", "DELETE, GET, HEAD"),
        ("GET", "/api/m/q/start", "POST"),
        ("POST", "/api/m/q/stop", "DELETE, GET, HEAD"),
    ],
)
async def test_other_methods(client: Client, method: str, path: str, allow: str) -> None:
    async with client.request(method, path, json={}) as response:
        assert (response.status, response.headers["Allow"]) == (405, allow)
        assert (await response.json())["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/api", "/api/x", "/api/order/x", "/api%2Fm", "/", "/api/M"])
async def test_other_paths(client: Client, path: str) -> None:
    status, answer = await ask(client, "GET", path)
    assert (status, answer["error"]["code"]) == (404, "not_found")


async def test_bodies_are_checked_before_the_handler_is_asked(client: Client) -> None:
    for given, status in (
        ({"json": {"size": "x"}}, 400),
        ({"json": {}}, 400),
        ({"data": b"size=1"}, 415),
        ({"json": {"size": 1, "pad": "x" * 70_000}}, 413),
    ):
        assert (await ask(client, "PATCH", "/api/order", **given))[0] == status
    assert (await ask(client, "POST", "/api/m/q/start", json={"force": True}))[0] == 400, "nothing is taken here"


async def test_nothing_is_stored_on_the_way_unless_a_handler_says_so(client: Client) -> None:
    for path, cached in (
        ("/api/m", "no-store"),
        ("/api/fails", "no-store"),
        ("/x", "no-store"),
        ("/api/stored", "max-age=60"),
    ):
        assert (await client.get(path)).headers["Cache-Control"] == cached


async def test_errors_are_answers(client: Client) -> None:
    async with client.get("/api/fails") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "10")
        assert (await response.json())["error"]["message"] == "not now"


def test_what_a_path_takes() -> None:
    assert ROUTES.methods("/api/m/q") == ["DELETE", "GET"]
    assert ROUTES.methods("/x") == []


async def test_content_that_came_another_way_is_checked_alike() -> None:
    def asked(method: str, path: str) -> web.Request:
        return make_mocked_request(method, path)

    done = await ROUTES.perform(asked("PATCH", "/api/order"), {"size": 3})
    assert isinstance(done, web.Response)
    assert done.body == b'["PATCH /api/order",3]'
    shown = await ROUTES.perform(asked("GET", "/api/m/q"), {})
    assert isinstance(shown, web.Response)
    assert shown.body == b'["GET /api/m/{name}","q"]'
    with pytest.raises(InvalidRequest, match="size"):
        await ROUTES.perform(asked("PATCH", "/api/order"), {"size": "large"})
    with pytest.raises(InvalidRequest, match="unknown key"):
        await ROUTES.perform(asked("POST", "/api/m/q/start"), {"other": 1})
    with pytest.raises(NotFound):
        await ROUTES.perform(asked("GET", "/api/none"), {})
    with pytest.raises(MethodNotAllowed):
        await ROUTES.perform(asked("PUT", "/api/m"), {})
