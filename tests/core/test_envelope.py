"""llamaproxy.core.envelope: the messages of the live protocol, well-formed and not."""

import json
from typing import Any

import pytest

from llamaproxy.core import envelope
from llamaproxy.errors import ModelNotFound


def asked(**fields: Any) -> envelope.Ask:
    message = {"type": "request", "event": "ping", "data": {}, "requestId": "7", "timestamp": 1, "version": "1.0"}
    return envelope.read(json.dumps({**message, **fields}))


def test_request() -> None:
    ask = asked(event="models:get", data={"name": "m"})
    assert (ask.event, ask.data, ask.request_id, ask.fault) == ("models:get", {"name": "m"}, "7", None)


def test_data_version_and_id_may_be_missing() -> None:
    assert envelope.read(b'{"type":"request","event":"ping"}') == envelope.Ask("ping")
    assert asked(data=None, requestId=12) == envelope.Ask("ping", {}, 12)


@pytest.mark.parametrize("text", ["", "{", "[]", '"ping"', "null", "\udcff", b"\xff", "[" * 100_000, "NaN"], ids=ascii)
def test_what_is_no_object(text: str | bytes) -> None:
    ask = envelope.read(text)
    assert ask.fault and ask.fault.code == "invalid_request"
    assert (ask.event, ask.request_id) == ("", None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", "response"),
        ("type", None),
        ("event", ""),
        ("event", None),
        ("event", "e" * 129),
        ("event", {}),
        ("data", []),
        ("data", "x"),
        ("data", 1),
        ("version", "2.0"),
        ("version", 1),
        ("version", None),
    ],
)
def test_fault_names_its_field_and_is_answered_under_its_id(field: str, value: Any) -> None:
    ask = asked(**{field: value})
    assert ask.fault and (ask.fault.code, ask.fault.param) == ("invalid_request", field)
    assert ask.request_id == "7"


@pytest.mark.parametrize("value", ["", "i" * 129, None, [], {}, True, 1.5])
def test_ids_that_are_none(value: Any) -> None:
    assert asked(requestId=value).request_id is None


def test_answer() -> None:
    told = json.loads(envelope.answer(asked(), b'{"a":1}', 5))
    assert told == {
        **{"type": "response", "event": "ping", "success": True, "data": {"a": 1}, "error": None},
        **{"requestId": "7", "timestamp": 5, "version": "1.0"},
    }


def test_refusal() -> None:
    told = json.loads(envelope.refusal(asked(), ModelNotFound("there is no model 'x'"), 5))
    assert (told["success"], told["data"]) == (False, None)
    assert told["error"] == {"code": "model_not_found", "message": "there is no model 'x'"}


def test_broadcast() -> None:
    assert json.loads(envelope.broadcast("hello", {}, 5)) == {
        **{"type": "broadcast", "event": "hello", "data": {}, "timestamp": 5}
    }
    told = json.loads(envelope.broadcast("models:status", {"models": []}, 5, "models", 3))
    assert (told["topic"], told["seq"]) == ("models", 3)
