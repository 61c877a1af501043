"""What an engine gets of a request."""

from typing import Any

import orjson
import pytest

from llamaproxy.core.ollama_answer import Occasion, Telling, as_message
from llamaproxy.core.routing import ENDPOINTS, Dialect, upstream
from llamaproxy.core.stripping import Unasked
from llamaproxy.errors import InvalidRequest
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.models.catalogue import Model
from llamaproxy.server.outgoing import Outgoing, Translated, outgoing_below, outgoing_to, outgoing_translated
from tests.server.mocked import mocked_request

CHAT = ENDPOINTS["/v1/chat/completions"]
FAR: dict[str, Any] = {"url": "http://far.example", "upstream_name": "theirs"}
BODY = b'{"model": "m", "stream": true, "temperature": 1.50}'


def model(**settings: Any) -> Model:
    return Model("m", ModelConfig.model_validate(settings or {"path": "/m.gguf"}), "configured")


def sent(body: bytes, path: str = "/v1/chat/completions", stream: bool = True, **settings: Any) -> Outgoing:
    request = mocked_request("POST", f"{path}?a=b", {"X-Request-Id": "r-1", "Accept": "*/*", "Cookie": "c"})
    return outgoing_to(request, path, body, model(**settings), ENDPOINTS[path], stream)


def test_own_engines_get_what_the_client_sent() -> None:
    outgoing = sent(BODY, stream=False)
    assert outgoing.body is BODY
    assert (outgoing.method, outgoing.target, outgoing.dialect) == ("POST", "/v1/chat/completions?a=b", CHAT.dialect)
    assert outgoing.fields == b"Accept: */*\r\nX-Request-Id: r-1\r\n"
    assert outgoing.unasked is None


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_own_engines_tell_the_counts_of_every_token_of_a_stream(path: str) -> None:
    outgoing = sent(BODY, path)
    assert outgoing.unasked is Unasked.TIMINGS
    assert outgoing.body == BODY[:-1] + b',"timings_per_token":true}'


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", BODY),
        ("/completion", BODY),
        ("/v1/chat/completions", BODY[:-1] + b', "timings_per_token": false}'),
        ("/v1/chat/completions", b'{"prompt": "' + b"x" * 1024**2 + b'"}'),
    ],
    ids=["never has any", "tells them anyway", "speaks of them itself", "would be copied"],
)
def test_own_engines_are_not_asked_for_what_is_in_vain_or_dear(path: str, body: bytes) -> None:
    outgoing = sent(body, path)
    assert outgoing.unasked is None
    assert outgoing.body is body


def test_other_servers_find_their_model_and_are_asked_for_usage() -> None:
    outgoing = sent(BODY, **FAR)
    assert outgoing.unasked is Unasked.USAGE
    assert orjson.loads(outgoing.body or b"") == {
        "model": "theirs",
        "stream": True,
        "temperature": 1.5,
        "stream_options": {"include_usage": True},
    }
    assert b"1.50" in (outgoing.body or b"")


def test_usage_that_the_client_asks_for_is_its_own() -> None:
    asking = BODY.replace(b"}", b', "stream_options": {"include_usage": true}}')
    assert sent(asking, **FAR).unasked is None


@pytest.mark.parametrize(("path", "stream"), [("/v1/messages", True), ("/v1/chat/completions", False)])
def test_usage_is_asked_for_only_where_it_would_not_come(path: str, stream: bool) -> None:
    outgoing = sent(BODY, path, stream, **FAR)
    assert outgoing.unasked is None
    assert b"stream_options" not in (outgoing.body or b"")


def test_parameters_are_set_and_stripped_for_any_server() -> None:
    settings = {"path": "/m.gguf", "set_params": {"top_k": 3}, "strip_params": ["temperature"]}
    request = mocked_request("POST", "/v1/chat/completions")
    outgoing = outgoing_to(request, "/v1/chat/completions", BODY, model(**settings), CHAT, False)
    assert orjson.loads(outgoing.body or b"") == {"model": "m", "stream": True, "top_k": 3}


def test_below_upstream_a_path_may_not_climb_out_of_an_address() -> None:
    request = mocked_request("GET", "/upstream/m/a")
    endpoint = upstream("GET", "/a/../../b")
    with pytest.raises(InvalidRequest):
        outgoing_below(request, "/a/../../b", b"", model(**FAR), endpoint)
    assert outgoing_below(request, "/a/../../b", b"", model(), endpoint).target == "/a/../../b"


def test_below_upstream_unknown_bodies_are_nobodys_business() -> None:
    request = mocked_request("POST", "/upstream/m/other")
    outgoing = outgoing_below(request, "/other", b"no json", model(**FAR), upstream("POST", "/other"))
    assert outgoing.body == b"no json"
    named = outgoing_below(request, "/v1/completions", BODY, model(**FAR), upstream("POST", "/v1/completions"))
    assert orjson.loads(named.body or b"")["model"] == "theirs"
    assert named.unasked is None


def translated(stream: bool = True, **settings: Any) -> Outgoing:
    telling = Telling(Occasion("m", 0.0, lambda: 0.0, lambda: 0.0), as_message)
    request = mocked_request("POST", "/api/chat?x=1", {"Content-Type": "text/plain", "X-Request-Id": "r-1"})
    sent = Translated("/v1/chat/completions", CHAT, BODY, stream, Dialect.OLLAMA, telling)
    return outgoing_translated(request, sent, model(**settings))


def test_of_a_translated_request_only_the_id_is_left() -> None:
    outgoing = translated(stream=False)
    assert (outgoing.method, outgoing.target, outgoing.dialect) == ("POST", "/v1/chat/completions", Dialect.OLLAMA)
    assert outgoing.fields == b"Content-Type: application/json\r\nX-Request-Id: r-1\r\n"
    assert outgoing.body == BODY
    assert outgoing.retelling


def test_translated_streams_ask_for_counts_and_names_are_those_of_the_server() -> None:
    assert orjson.loads(translated().body or b"")["timings_per_token"] is True
    far = orjson.loads(translated(**FAR, set_params={"top_k": 1}).body or b"")
    assert (far["model"], far["top_k"], far["stream_options"]) == ("theirs", 1, {"include_usage": True})
    assert translated().unasked is None, "who tells the answer anew leaves them out"
