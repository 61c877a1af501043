"""llamaproxy.server.api: the table is all there is below /api, and all of it is there."""

from pathlib import Path
from typing import Any

import pytest

from llamaproxy.config import Config
from llamaproxy.server.app import Server
from llamaproxy.server.gateway import Gateway
from llamaproxy.values import check_model_name
from tests.server.conftest import Serve


@pytest.fixture
async def server(tmp_path: Path) -> Any:
    gateway = Gateway(Config.model_validate({"telemetry": {"database": "off"}, "kv": {"carry": False}}), tmp_path)
    yield Server(gateway)
    await gateway.close(0)
    await gateway.settle()


async def test_nothing_else_is_served_there(server: Server) -> None:
    assert not [path for path in server._routes if path.startswith("/api")]


async def test_every_line_has_a_title_of_its_own_and_is_reached(server: Server) -> None:
    routes = server.api.routes
    assert len({route.title for route in routes}) == len(routes)
    for route in routes:
        assert route.title[0].isupper() and not route.title.endswith(".")
        assert route.method in server.api.methods(route.path.replace("{name}", "org/m").replace("{id}", "r"))


async def test_no_model_can_have_the_name_of_another_line(server: Server) -> None:
    """It could be neither shown nor edited."""
    taken = {route.method for route in server.api.routes if route.path == "/api/models/{name}"}
    for route in server.api.routes:
        if route.path.startswith("/api/models/") and "{" not in route.path and route.method in taken:
            with pytest.raises(ValueError, match="no model can have the name"):
                check_model_name(route.parts[2])


async def test_the_description_has_every_line(serve: Serve, server: Server) -> None:
    client = await serve()
    response = await client.get("/api/openapi.json")
    document = await response.json()
    assert (document["openapi"], response.headers["Cache-Control"]) == ("3.1.0", "no-store")
    operations = [(path, method) for path, methods in document["paths"].items() for method in methods]
    assert operations == [(route.path, route.method.lower()) for route in server.api.routes]
    for route in server.api.routes:
        told = document["paths"][route.path][route.method.lower()]
        assert told["summary"]
        assert str(route.status) in told["responses"]
    names = [document["paths"][path][method]["operationId"] for path, method in operations]
    assert len(set(names)) == len(names)


async def test_pages_of_allowed_origins_may_ask_for_its_methods(serve: Serve) -> None:
    client = await serve(server={"allowed_origins": ["https://ops.test"]})
    headers = {"Origin": "https://ops.test", "Access-Control-Request-Method": "DELETE"}
    response = await client.options("/api/requests/r", headers=headers)
    assert response.status == 204
    assert response.headers["Access-Control-Allow-Methods"] == "DELETE, GET"
    assert response.headers["Allow"] == "DELETE, GET, HEAD, OPTIONS"


async def test_a_key_is_needed_where_there_are_any(serve: Serve) -> None:
    client = await serve(keys={"alice": {"sha256": "0" * 64}})
    for path in ("/api/models", "/api/config", "/api/openapi.json", "/api/nothing"):
        response = await client.get(path)
        assert (response.status, (await response.json())["error"]["code"]) == (401, "invalid_api_key")
