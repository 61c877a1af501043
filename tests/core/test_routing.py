"""Endpoint and dialect of a request."""

import pytest

from llamaproxy.core.routing import (
    ENDPOINTS,
    SLOT,
    Dialect,
    Endpoint,
    acts_on_slots,
    below_upstream,
    dialect_of,
    normalise,
    resolve,
    touches_slot_files,
    upstream,
)
from llamaproxy.core.routing import (
    climbs as leads_out,
)


@pytest.mark.parametrize(
    ("path", "spelled"),
    [("/", "/"), ("//", "/"), ("/v1/models/", "/v1/models"), ("//v1//chat///completions", "/v1/chat/completions")],
)
def test_slashes_are_forgiven(path: str, spelled: str) -> None:
    assert normalise(path) == spelled


@pytest.mark.parametrize(
    ("path", "engine_path", "dialect", "light"),
    [
        ("/v1/chat/completions", "/v1/chat/completions", Dialect.OPENAI, False),
        ("/chat/completions", "/chat/completions", Dialect.OPENAI, False),
        ("/completions", "/completions", Dialect.NATIVE, False),
        ("/responses", "/responses", Dialect.RESPONSES, False),
        ("/v1/messages", "/v1/messages", Dialect.ANTHROPIC, False),
        ("/messages", "/v1/messages", Dialect.ANTHROPIC, False),
        ("/v1/messages/count_tokens", "/v1/messages/count_tokens", Dialect.ANTHROPIC, True),
        ("/tokenize", "/tokenize", Dialect.NATIVE, True),
        ("/v1/audio/transcriptions", "/v1/audio/transcriptions", Dialect.OPENAI, False),
    ],
)
def test_engine_routes(path: str, engine_path: str, dialect: Dialect, light: bool) -> None:
    spelled, endpoint = resolve(path)
    assert endpoint
    assert (spelled, endpoint.dialect, endpoint.light) == (engine_path, dialect, light)


@pytest.mark.parametrize(("path", "endpoint"), ENDPOINTS.items())
def test_every_route_has_itself_and_says_how_it_is_asked(path: str, endpoint: Endpoint) -> None:
    assert resolve(normalise(path)) == (path, endpoint)
    assert endpoint.methods <= {"GET", "POST"}
    assert endpoint.methods
    assert not endpoint.name.startswith("/")


def test_spellings_of_a_route_are_one_endpoint() -> None:
    assert len({ENDPOINTS[path].name for path in ("/v1/embeddings", "/embeddings", "/embedding")}) == 1
    assert ENDPOINTS["/props"].methods == {"GET", "POST"}
    assert ENDPOINTS["/slots"].methods == {"GET"}


def test_slots_by_number_and_nothing_else() -> None:
    assert resolve("/slots/3") == ("/slots/3", SLOT)
    assert resolve("/slots/") == ("/slots/", None)
    assert resolve("/slots/x") == ("/slots/x", None)
    assert resolve("/slots/3/x") == ("/slots/3/x", None)
    assert resolve("/v1/nothing") == ("/v1/nothing", None)


def test_errors_follow_the_dialect_of_the_path_even_where_there_is_nothing() -> None:
    assert dialect_of("//v1/messages/") is Dialect.ANTHROPIC
    assert dialect_of("/nowhere") is Dialect.OPENAI


def test_below_upstream_reading_and_known_light_routes_are_light() -> None:
    assert upstream("GET", "/anything").light
    assert not upstream("POST", "/anything").light
    assert upstream("POST", "/tokenize").light
    messages = upstream("POST", "//v1/messages/")
    assert (messages.name, messages.dialect, messages.light) == ("upstream", Dialect.ANTHROPIC, False)


def test_upstream_prefix_is_cut_once_and_the_rest_stays() -> None:
    assert below_upstream("/upstream/m/a//b/") == "m/a//b/"
    assert below_upstream("//upstream//m/upstream/") == "m/upstream/"


@pytest.mark.parametrize(
    ("path", "climbs"),
    [
        ("/v1/../admin", True),
        ("/%2e%2E/x", True),
        ("/a/.%2e%2fb", True),
        ("/a\\..\\b", True),
        ("/..", True),
        ("/v1/models/a..b", False),
        ("/...", False),
        ("/v1//./x", False),
    ],
)
def test_paths_that_lead_out_of_where_they_are_put(path: str, climbs: bool) -> None:
    assert leads_out(path) is climbs


@pytest.mark.parametrize(
    ("method", "target", "touches"),
    [
        ("POST", "/slots/0?action=save", True),
        ("POST", "/slots/0?action=restore&model=m", True),
        ("POST", "/slots/0?%61ction=save", True),
        ("POST", "/%73lots/0?action=save", True),
        ("POST", "//slots//0?action=save", True),
        ("POST", "/x/../slots/./0?action=save", True),
        ("POST", "/slots/0?action=erase&action=save", True),
        ("POST", "/slots/0", True),
        ("POST", "/slots/0?action=erase", False),
        ("GET", "/slots", False),
        ("POST", "/completion?action=save", False),
    ],
)
def test_slot_files_are_touched_under_every_spelling(method: str, target: str, touches: bool) -> None:
    assert (acts_on_slots(method, target) and touches_slot_files(target)) is touches


@pytest.mark.parametrize(
    "path", ["/v1/chat/completion%73", "/v1/./chat/completions", "/v1/x/../chat/completions", "//v1//chat/completions/"]
)
def test_routes_below_upstream_are_known_under_every_spelling(path: str) -> None:
    assert upstream("POST", path).methods == ENDPOINTS["/v1/chat/completions"].methods


def test_other_dots_below_upstream_mean_nothing() -> None:
    assert upstream("POST", "/files/a..b/.hidden").methods == frozenset()
