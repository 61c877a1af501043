"""llamaproxy.server.answers: errors in the shape that each kind of client reads."""

from typing import Any

import orjson
import pytest
from aiohttp import web

from llamaproxy import errors
from llamaproxy.core.routing import Dialect
from llamaproxy.errors import GatewayError
from llamaproxy.server.answers import envelope, error_event, error_response, json_response

OPENAI_LIKE = [Dialect.OPENAI, Dialect.RESPONSES, Dialect.NATIVE]


def content(response: web.Response) -> Any:
    assert isinstance(response.body, bytes)
    return orjson.loads(response.body)


def test_json() -> None:
    response = json_response({"a": ["ä", None]}, 201, {"X-A": "b"})
    assert (response.status, response.headers["X-A"]) == (201, "b")
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert content(response) == {"a": ["ä", None]}


@pytest.mark.parametrize("dialect", OPENAI_LIKE)
def test_the_shape_of_openai(dialect: Dialect) -> None:
    error = errors.ModelNotFound("there is no model 'x'", param="model")
    told = {"message": "there is no model 'x'", "type": "not_found_error", "param": "model", "code": "model_not_found"}
    assert envelope(error, dialect) == {"error": told}
    response = error_response(error, dialect)
    assert (response.status, content(response)) == (404, {"error": told})
    assert "Retry-After" not in response.headers


def test_the_engines_own_words_come_along_where_there_are_any() -> None:
    error = errors.ModelStartFailed("m: it failed", detail="E line 1\nE line 2")
    assert envelope(error, Dialect.OPENAI)["error"]["detail"] == "E line 1\nE line 2"
    assert "detail" not in envelope(errors.ModelStartFailed("m: it failed"), Dialect.OPENAI)["error"]


@pytest.mark.parametrize(
    ("cls", "kind"),
    [
        (errors.InvalidJson, "invalid_request_error"),
        (errors.InvalidApiKey, "authentication_error"),
        (errors.ModelNotAllowed, "permission_error"),
        (errors.ModelNotFound, "not_found_error"),
        (errors.MethodNotAllowed, "invalid_request_error"),
        (errors.RequestTimeout, "invalid_request_error"),
        (errors.RequestTooLarge, "request_too_large"),
        (errors.UnsupportedMediaType, "invalid_request_error"),
        (errors.QueueFull, "rate_limit_error"),
        (errors.GatewayError, "api_error"),
        (errors.UpstreamError, "api_error"),
        (errors.Unavailable, "overloaded_error"),
        (errors.UpstreamStalled, "timeout_error"),
    ],
)
def test_the_shape_of_anthropic(cls: type[GatewayError], kind: str) -> None:
    """Source: Anthropic's API reference, "Errors"."""
    told = {"type": "error", "error": {"type": kind, "message": "words", "code": cls.code}}
    response = error_response(cls("words", param="model"), Dialect.ANTHROPIC)
    assert (response.status, content(response)) == (cls.status, told)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.QueueFull("full", retry_after=2.1), "3"),
        (errors.QueueFull("full", retry_after=7), "7"),
        (errors.QueueFull("full"), "10"),
        (errors.Unavailable("down", retry_after=0.2), "1"),
        (errors.Unavailable("down"), "10"),
        (errors.EngineMissing("none"), "10"),
        (errors.UpstreamError("broken", retry_after=1), "1"),
        (errors.UpstreamError("broken"), None),
        (errors.InvalidRequest("wrong"), None),
    ],
)
def test_when_to_come_again(error: GatewayError, seconds: str | None) -> None:
    for dialect in Dialect:
        assert error_response(error, dialect).headers.get("Retry-After") == seconds


def test_what_can_never_be_is_not_to_be_asked_for_again() -> None:
    """OpenAI's clients ask twice more after a 429, unless they are told not to."""
    never = error_response(errors.RequestOverLimit("x"), Dialect.OPENAI)
    later = error_response(errors.RateLimitExceeded("x", retry_after=3), Dialect.OPENAI)
    assert never.headers["x-should-retry"] == "false"
    assert "x-should-retry" not in later.headers
    assert [content(one)["error"]["code"] for one in (never, later)] == ["rate_limit_exceeded"] * 2


def test_a_refused_key_is_told_which_kind_of_key_is_wanted() -> None:
    assert error_response(errors.InvalidApiKey("no"), Dialect.OPENAI).headers["WWW-Authenticate"] == "Bearer"
    assert "WWW-Authenticate" not in error_response(errors.ForbiddenOrigin("no"), Dialect.OPENAI).headers


def test_ollamas_errors_are_strings_and_lines_of_a_stream() -> None:
    """Source: Ollama's API reference, "Errors"."""
    error = errors.ModelNotFound("no such\nmodel", param="model")
    response = error_response(error, Dialect.OLLAMA)
    assert (response.status, content(response)) == (404, {"error": "no such\nmodel"})
    assert error_event(error, Dialect.OLLAMA) == b'{"error":"no such\\nmodel"}\n'


@pytest.mark.parametrize("dialect", [dialect for dialect in Dialect if dialect is not Dialect.OLLAMA])
def test_the_last_event_of_a_broken_stream(dialect: Dialect) -> None:
    event = error_event(errors.UpstreamError("it\nbroke"), dialect)
    assert event.startswith(b"\n\n")
    assert event.endswith(b"\n\n")
    assert b"[DONE]" not in event
    *names, data = event.strip().split(b"\n")
    assert names == ([b"event: error"] if dialect in (Dialect.ANTHROPIC, Dialect.RESPONSES) else [])
    told = orjson.loads(data.removeprefix(b"data: "))
    if dialect is Dialect.RESPONSES:
        assert told == {"type": "error", "code": "bad_upstream_response", "message": "it\nbroke", "param": None}
    else:
        assert told == envelope(errors.UpstreamError("it\nbroke"), dialect)
