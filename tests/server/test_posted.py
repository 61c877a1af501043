"""llamaproxy.server.posted: bodies of the gateway's own routes."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pydantic import BaseModel, ConfigDict, Field
from pytest_aiohttp.plugin import AiohttpClient

from llamaproxy.core.routing import Dialect
from llamaproxy.errors import GatewayError
from llamaproxy.server.answers import error_response, json_response
from llamaproxy.server.posted import LARGEST, read_as

Client = TestClient[web.Request, web.Application]


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: Annotated[int, Field(ge=1)] = 1


class Wanted(BaseModel):
    model_config = ConfigDict(extra="forbid")
    inner: Inner = Inner()


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except GatewayError as error:
        return error_response(error, Dialect.OPENAI)


async def _read(request: web.Request) -> web.Response:
    return json_response((await read_as(request, Wanted)).model_dump())


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> Client:
    app = web.Application(middlewares=[_errors], client_max_size=LARGEST * 4)
    app.router.add_route("*", "/", _read)
    return await aiohttp_client(app)


async def send(
    client: Client, body: bytes, kind: str | None = "application/json", method: str = "POST"
) -> tuple[int, Any]:
    headers = {"Content-Type": kind} if kind else {}
    async with client.request(method, "/", data=body or None, headers=headers) as response:
        return response.status, await response.json()


async def test_a_body_and_none(client: Client) -> None:
    assert await send(client, b'{"inner": {"count": 5}}') == (200, {"inner": {"count": 5}})
    assert await send(client, b"{}", "application/json; charset=utf-8") == (200, {"inner": {"count": 1}})
    assert await send(client, b"") == (200, {"inner": {"count": 1}})


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_json_only_even_where_nothing_is_sent(client: Client, method: str, kind: str | None) -> None:
    for body in (b"", b"{}"):
        status, answer = await send(client, body, kind, method)
        assert (status, answer["error"]["code"]) == (415, "unsupported_media_type")


async def test_a_delete_of_nothing_needs_no_type_and_one_of_something_does(client: Client) -> None:
    assert (await send(client, b"", None, "DELETE"))[0] == 200
    assert (await send(client, b"{}", "text/plain", "DELETE"))[0] == 415
    assert (await send(client, b"{}", "application/json", "DELETE"))[0] == 200


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{", "invalid_json", None),
        (b"[]", "invalid_request", None),
        (b"null", "invalid_request", None),
        (b'{"inner": {"count": 0}}', "invalid_request", "inner.count"),
        (b'{"inner": {"cuont": 1}}', "invalid_request", "inner.cuont"),
        (b'{"a\\u0000b": 1}', "invalid_request", "a\\x00b"),
        (b'{"' + b"x" * 5000 + b'": 1}', "invalid_request", "x" * 200),
    ],
    ids=lambda value: repr(value)[:24],
)
async def test_what_is_wrong_is_named(client: Client, body: bytes, code: str, param: str | None) -> None:
    status, answer = await send(client, body)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, code, param)
    assert answer["error"]["message"].isprintable()
    assert len(answer["error"]["message"]) < 600


async def test_it_is_small(client: Client) -> None:
    status, answer = await send(client, b"{}" + b" " * LARGEST)
    assert (status, answer["error"]["code"]) == (413, "request_too_large")
