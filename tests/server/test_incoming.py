"""llamaproxy.server.incoming: targets that become a plain path."""

from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from llamaproxy.server.incoming import Request, to_origin_form, without
from tests.server.mocked import mocked_request, ours


def request(target: str, **headers: str) -> Request:
    return mocked_request("GET", target, headers or {"Host": "other.test"})


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


@pytest.mark.parametrize("target", ["/v1/models?x=1", "http://a.test/v1/models", "http://a.test"])
@pytest.mark.parametrize("changes", [{}, {"method": "POST", "rel_url": "/x?y", "headers": {"Host": "a.test"}}])
def test_a_request_says_of_itself_what_aiohttps_own_says(target: str, changes: dict[str, Any]) -> None:
    theirs = make_mocked_request("GET", target, headers={"Host": "other.test"})
    same, expected = ours(theirs).clone(**changes), theirs.clone(**changes)
    assert [getattr(same, name) for name in Request.__slots__] == [
        getattr(expected, name) for name in Request.__slots__
    ]


def test_a_clone_has_the_same_caller_and_the_same_id() -> None:
    asked = mocked_request("GET", "/a")
    asked.caller, asked.known_as = "alice", "1"
    clone = asked.clone(method="POST")
    assert (clone.caller, clone.known_as) == ("alice", "1")
