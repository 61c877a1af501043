"""llamaproxy.server.openapi: the description is true of the gateway that is running."""

import asyncio
import http.client
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from llamaproxy.errors import ModelNotFound, NotFound
from llamaproxy.server.openapi import describe
from llamaproxy.server.routes import Route
from tests.gateway import GatewayProcess, fake_model

WORDS = ("/api/models/history", "/api/models/scan", "/api/deploy/plan", "/api/deploy/stream")
EXAMPLES = 12
"""Of each operation, good ones and bad ones each."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


async def _handler(request: object) -> Any:
    raise NotImplementedError


class TestDocument:
    def route(self, method: str = "GET", path: str = "/api/x", answer: Any = dict[str, int], **more: Any) -> Route:
        return Route(method, path, _handler, "Title", answer, **more)

    def test_one_path_has_all_its_methods(self) -> None:
        paths = describe([self.route(), self.route("DELETE"), self.route(path="/api/y/{id}/z-z")])["paths"]
        assert {path: list(methods) for path, methods in paths.items()} == {
            "/api/x": ["get", "delete"],
            "/api/y/{id}/z-z": ["get"],
        }
        assert paths["/api/y/{id}/z-z"]["get"]["operationId"] == "get_y_id_z_z"
        (parameter,) = paths["/api/y/{id}/z-z"]["get"]["parameters"]
        assert (parameter["name"], parameter["in"], parameter["required"]) == ("id", "path", True)

    def test_errors_of_one_status_are_one_answer(self) -> None:
        operation = describe([self.route(errors=(NotFound, ModelNotFound))])["paths"]["/api/x"]["get"]
        assert operation["responses"]["404"]["description"] == "Not Found: `not_found`, `model_not_found`"
        assert list(operation["responses"]) == ["200", "401", "403", "404"]

    def test_what_changes_something_may_be_refused_for_its_body(self) -> None:
        operation = describe([self.route("POST")])["paths"]["/api/x"]["post"]
        assert {"400", "413", "415"} <= set(operation["responses"])
        assert operation["requestBody"]["required"] is False


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    models = {name: fake_model(tmp_path, name.replace("/", "-")) for name in ("m", "org/n")}
    made = GatewayProcess(tmp_path, {"models": models})
    async with made.running():
        yield made


def operations(schema: Any, mode: GenerationMode) -> Iterator[Any]:
    """Nothing is wrong with a request for what takes nothing."""
    for result in schema.get_all_operations():
        operation = result.ok()
        if mode is GenerationMode.POSITIVE or operation.query or operation.body:
            yield operation


def fire(url: str, mode: GenerationMode) -> int:
    """Cases of every operation, each checked; returns how many there were."""
    count = 0
    # Whoever reads the log of a failure finds the same cases in the next run.
    rules = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    for operation in operations(schemathesis.openapi.from_url(f"{url}/api/openapi.json"), mode):

        @seed(0)
        @rules
        @given(case=operation.as_strategy(generation_mode=mode), name=st.sampled_from(("m", "org/n", None)))
        def check(case: Case[Any], name: str | None) -> None:
            nonlocal count
            count += 1
            if name and "name" in case.path_parameters and mode is GenerationMode.POSITIVE:
                case.path_parameters["name"] = name
            case.call_and_validate(checks=CHECKS, timeout=10)

        check()
    return count


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
async def test_every_answer_is_as_described(gateway: GatewayProcess, mode: GenerationMode) -> None:
    assert await asyncio.to_thread(fire, gateway.url, mode) > 100
    assert "Traceback" not in gateway.log


async def test_other_methods_are_refused_everywhere(gateway: GatewayProcess) -> None:
    """By hand, because clients' libraries will not send them all."""
    methods = {"GET", "POST", "PUT", "PATCH", "DELETE"}

    def ask() -> dict[tuple[str, str], tuple[int, str | None]]:
        parts = urlsplit(gateway.url)
        schema = schemathesis.openapi.from_url(f"{gateway.url}/api/openapi.json")
        told: dict[tuple[str, str], tuple[int, str | None]] = {}
        for path, item in schema.raw_schema["paths"].items():
            for method in methods - {name.upper() for name in item}:
                connection = http.client.HTTPConnection(parts.netloc, timeout=10)
                connection.request(method, re.sub(r"\{\w+\}", "m", path), b"{}", {"Content-Type": "application/json"})
                answer = connection.getresponse()
                told[method, path] = (answer.status, answer.getheader("Allow"))
                connection.close()
        # These words may be names of a model or a download as well.
        return {key: answer for key, answer in told.items() if key[1] not in WORDS}

    told = await asyncio.to_thread(ask)
    assert len(told) > 40
    assert {key: status for key, (status, _) in told.items() if status != 405} == {}
    assert all(allow for _, allow in told.values())
