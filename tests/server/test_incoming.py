"""llamaproxy.server.incoming: targets that become a plain path."""

from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from llamaproxy.server.incoming import Request, to_origin_form, without


def request(target: str, **headers: str) -> Request:
    return cast(Request, cast(Any, make_mocked_request("GET", target, headers=headers or {"Host": "other.test"})))


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        ("http://a.test/v1/models?x=1", "/v1/models?x=1", "a.test"),
        ("http://a.test:8080/", "/", "a.test:8080"),
        ("http://a.test", "/", "a.test"),
        ("http://a.test?x=1", "/?x=1", "a.test"),
    ],
)
def test_who_is_named_in_the_target_is_the_host(target: str, path: str, host: str) -> None:
    plain = to_origin_form(request(target, Host="other.test"))
    assert (plain.rel_url.raw_path_qs, plain.headers["Host"]) == (path, host)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/llm/v1/models?x=a%26b", "/v1/models?x=a%26b"),
        ("/llm/", "/"),
        ("/llm//evil.test/x", "/evil.test/x"),
        ("/llm/a%2Fb", "/a%2Fb"),
        ("/llmx/v1", "/llmx/v1"),
        ("/v1/models", "/v1/models"),
    ],
)
def test_a_prefix_is_taken_away_where_it_is_one(target: str, path: str) -> None:
    assert str(without("/llm", request(target)).rel_url) == path


def test_a_clone_has_the_same_caller() -> None:
    mocked = cast(Any, make_mocked_request("GET", "/a"))
    parts = (mocked._message, mocked.content, mocked.protocol, mocked.writer, mocked.task, mocked._loop)
    asked = Request(*parts, client_max_size=0)
    asked.caller = "alice"
    assert asked.clone(method="POST").caller == "alice"


def ours(request: Any) -> Request:
    parts = (request._message, request._payload, request._protocol, request._payload_writer)
    return Request(*parts, request._task, request._loop)


@pytest.mark.parametrize("target", ["/v1/models?x=1", "http://a.test/v1/models", "http://a.test"])
@pytest.mark.parametrize("changes", [{}, {"method": "POST", "rel_url": "/x?y", "headers": {"Host": "a.test"}}])
def test_a_request_says_of_itself_what_aiohttps_own_says(target: str, changes: dict[str, Any]) -> None:
    theirs = cast(Any, request(target))
    same, expected = ours(theirs).clone(**changes), theirs.clone(**changes)
    assert [getattr(same, name) for name in Request.__slots__] == [
        getattr(expected, name) for name in Request.__slots__
    ]


def test_what_a_request_does_not_have_is_missing_without_an_exception() -> None:
    key = web.RequestKey("there", int)
    plain = ours(request("/"))
    assert (plain.get(key), plain.get(key, 1)) == (None, 1)
    plain[key] = 2
    assert plain.get(key, 1) == 2
