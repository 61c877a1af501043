"""What an engine's answer says, whichever way it is told, and what is not believed of it."""

from typing import Any

import orjson
import pytest

from llamaproxy.core.piece import LARGEST_CALLS, MOST_CALLS, Calls, Events, complaint, document_of, piece_of
from llamaproxy.core.response import BadResponse
from llamaproxy.core.sse import MAX_EVENT


def call(index: int | None = None, name: str = "", arguments: str | None = None, id: str = "") -> dict[str, Any]:
    function = ({"name": name} if name else {}) | ({} if arguments is None else {"arguments": arguments})
    told: dict[str, Any] = {"function": function, **({"id": id} if id else {})}
    return told if index is None else {**told, "index": index}


def said(document: dict[str, Any]) -> tuple[str, str, str | None]:
    piece = piece_of(document)
    return piece.text, piece.thinking, piece.reason


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"choices": [{"delta": {"content": "a"}, "finish_reason": None}]}, ("a", "", None)),
        ({"choices": [{"delta": {"reasoning_content": "hm"}}]}, ("", "hm", None)),
        ({"choices": [{"delta": {"reasoning": "hm"}}]}, ("", "hm", None)),
        ({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}, ("a", "", "stop")),
        ({"choices": [{"text": "a", "finish_reason": "length"}]}, ("a", "", "length")),
        ({"choices": [], "usage": {}}, ("", "", None)),
        ({"content": "a", "stop": False}, ("a", "", None)),
        ({"content": "", "stop": True, "stop_type": "limit"}, ("", "", "limit")),
        ({"content": "", "stop": True}, ("", "", "stop")),
    ],
)
def test_texts_and_ends(document: dict[str, Any], expected: tuple[str, str, str | None]) -> None:
    assert said(document) == expected


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": [1]},
        {"choices": [{"delta": 5}]},
        {"choices": [{"delta": {"content": 5, "tool_calls": 7}, "finish_reason": 9}]},
        {"choices": [{"delta": {"tool_calls": [3]}}]},
        {},
    ],
)
def test_what_has_other_types_says_nothing(odd: dict[str, Any]) -> None:
    assert said(odd) == ("", "", None)
    assert piece_of(odd).calls == []


def test_a_call_comes_in_parts() -> None:
    calls = Calls()
    calls.add([call(0, "weather", "", id="x")])
    calls.add([call(1, "time", "{}")])
    calls.add([call(0, arguments='{"city":')])
    calls.add([call(0, arguments='"Bern"}')])
    assert calls.whole() == [
        {"id": "x", "function": {"index": 0, "name": "weather", "arguments": {"city": "Bern"}}},
        {"function": {"index": 1, "name": "time", "arguments": {}}},
    ]


def test_calls_without_an_index_are_in_order() -> None:
    calls = Calls()
    calls.add([call(None, "a", "{}"), call(None, "b", "{}")])
    assert [one["function"]["name"] for one in calls.whole()] == ["a", "b"]


@pytest.mark.parametrize("arguments", ['{"city":', "[1]", '"Bern"'])
def test_a_call_whose_arguments_were_cut_off_is_none(arguments: str) -> None:
    calls = Calls()
    calls.add([call(0, "delete", arguments)])
    assert calls.whole() == []


def test_there_is_a_bound_to_calls() -> None:
    with pytest.raises(BadResponse):
        Calls().add([call(number, "a") for number in range(MOST_CALLS + 1)])
    long = Calls()
    long.add([call(0, "a", "x" * (LARGEST_CALLS - 10))])
    with pytest.raises(BadResponse):
        long.add([call(0, arguments="x" * 10)])


def test_events_are_cut_wherever_they_come() -> None:
    seen: list[bytes] = []
    events = Events(seen.append)
    for byte in b": hello\n\ndata: a\n\nevent: x\ndata: b\n\n":
        events.feed(bytes([byte]))
    assert seen == [b"a", b"b"]


def test_an_event_that_is_too_large_cannot_be_told() -> None:
    with pytest.raises(BadResponse):
        Events(lambda data: None).feed(b"data: " + b"x" * (MAX_EVENT + 10))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"error": {"message": "too long"}}, "too long"),
        ({"error": "too long"}, "too long"),
        ({"message": "too long"}, "too long"),
        ({"error": {"code": 5}}, "the engine answered 500"),
        ({}, "the engine answered 500"),
    ],
)
def test_complaints_are_found(document: dict[str, Any], words: str) -> None:
    assert complaint(document, 500) == words


def test_a_good_answer_is_an_object_and_a_bad_one_may_be_anything() -> None:
    assert document_of(200, orjson.dumps({"a": 1})) == {"a": 1}
    with pytest.raises(BadResponse):
        document_of(200, b"<html>")
    assert complaint(document_of(502, b"Bad Gateway\n"), 502) == "Bad Gateway"
