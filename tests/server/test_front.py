"""Which handler answers a method, and what is said where none does."""

import pytest
from aiohttp import web

from llamaproxy.errors import MethodNotAllowed
from llamaproxy.server.front import Route


async def show(request: web.Request) -> web.Response:
    return web.Response()


ROUTE = Route({"GET": show}, "/v1/models")


def test_head_is_get_without_a_body() -> None:
    assert ROUTE.handler("GET", "/x") is ROUTE.handler("HEAD", "/x") is show


def test_other_methods_are_told_what_there_is() -> None:
    with pytest.raises(MethodNotAllowed) as refused:
        ROUTE.handler("POST", "/x")
    assert refused.value.methods == ("GET",)
