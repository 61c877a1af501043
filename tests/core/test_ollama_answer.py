"""Answers of the engine as Ollama tells them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from llamaproxy.core.ollama_answer import (
    Lines,
    Occasion,
    Telling,
    Vectors,
    as_message,
    as_response,
    idle,
    moment,
)
from llamaproxy.core.response import BadResponse
from llamaproxy.core.sse import MAX_EVENT

TIMINGS = {"cache_n": 4, "prompt_n": 6, "prompt_ms": 20.5, "predicted_n": 3, "predicted_ms": 30.0}
COUNTS = ("prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration")
DURATIONS = {"total_duration": 2_000_000_000, "load_duration": 500_000_000}
BEGAN = 1_700_000_000.0
AT = {"model": "m:latest", "created_at": "2023-11-14T22:13:22.000000Z"}


def occasion(elapsed: Callable[[], float] = lambda: 2.0) -> Occasion:
    return Occasion("m:latest", BEGAN, elapsed, lambda: 0.5)


def event(document: Any) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def chunk(reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


DONE = b"data: [DONE]\n\n"
STREAM = [
    event(chunk(role="assistant", content=None)),
    event({**chunk(content="Hel"), "timings": {**TIMINGS, "predicted_n": 1}}),
    event(chunk(content="lo")),
    event({**chunk("stop"), "timings": TIMINGS}),
    DONE,
]


def read(lines: bytes) -> list[dict[str, Any]]:
    assert lines == b"" or lines.endswith(b"\n")
    return [json.loads(line) for line in lines.splitlines()]


def told(*parts: bytes, lines: Lines | None = None) -> list[dict[str, Any]]:
    lines = lines or Lines(occasion(), as_message)
    return read(b"".join(lines.through(part) for part in parts) + lines.end())


def test_a_stream_is_lines_and_the_last_has_the_counts() -> None:
    first, second, last = told(*STREAM)
    assert first == {**AT, "message": {"role": "assistant", "content": "Hel"}, "done": False}
    assert second["message"]["content"] == "lo"
    assert last == {
        **AT,
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "stop",
        **DURATIONS,
        "prompt_eval_count": 10,
        "prompt_eval_duration": 20_500_000,
        "eval_count": 3,
        "eval_duration": 30_000_000,
    }


def test_it_is_the_same_wherever_the_bytes_are_cut() -> None:
    whole = b"".join(STREAM)
    assert told(*(bytes([byte]) for byte in whole)) == told(whole) == told(*STREAM)


def test_every_line_goes_out_with_its_event() -> None:
    lines = Lines(occasion(), as_message)
    assert lines.through(STREAM[0]) == b""
    assert len(read(lines.through(STREAM[1]))) == 1
    assert len(read(lines.through(STREAM[3]))) == 0
    assert len(read(lines.through(STREAM[4]))) == 1
    assert lines.end() == b""


def test_a_stream_without_its_mark_of_the_end_ends_as_well() -> None:
    assert told(*STREAM[:-1]) == told(*STREAM)


def test_counts_of_a_server_that_tells_usage_after_the_end() -> None:
    usage = event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}})
    now = [1.0]
    lines = Lines(occasion(lambda: now[0]), as_message)
    assert lines.through(event(chunk(content="a")))
    now[0] = 4.0
    (last,) = told(event(chunk("stop")), usage, DONE, lines=lines)
    assert [last[key] for key in COUNTS] == [7, 500_000_000, 2, 3_000_000_000]


def test_counts_that_come_one_by_one_add_up() -> None:
    usage = [event({"choices": [], "usage": {name: 7}}) for name in ("prompt_tokens", "completion_tokens")]
    *_, last = told(event(chunk("stop")), *usage, DONE)
    assert (last["prompt_eval_count"], last["eval_count"]) == (7, 7)


def test_what_came_before_a_fault_goes_out_before_its_error() -> None:
    lines = Lines(occasion(), as_message)
    with pytest.raises(BadResponse):
        lines.through(STREAM[1] + b"data: " + b"x" * (MAX_EVENT + 10))
    first, last = read(lines.insert(b'{"error":"odd"}\n'))
    assert (first["message"]["content"], last) == ("Hel", {"error": "odd"})


def test_a_stream_that_breaks_off_has_no_last_line() -> None:
    assert [line["done"] for line in told(*STREAM[:3])] == [False, False]
    lines = Lines(occasion(), as_message)
    assert lines.through(STREAM[1])
    assert read(lines.insert(b'{"error":"gone"}\n')) == [{"error": "gone"}]


def test_an_error_of_the_engine_in_the_middle_is_the_end() -> None:
    failed = event({"error": {"message": "no room"}})
    *_, last = told(STREAM[1], failed, *STREAM[2:])
    assert last == {"error": "no room"}


def test_events_that_are_none_are_passed_over() -> None:
    assert told(b": waiting\n\n", b"data: [1]\n\n", b"data: {\n\n", *STREAM) == told(*STREAM)


def test_an_event_without_end_is_not_kept() -> None:
    with pytest.raises(BadResponse):
        told(b"data: " + b"x" * (MAX_EVENT + 10))


def test_thoughts_have_their_own_place() -> None:
    first, _ = told(event(chunk(reasoning_content="Hm.")), event(chunk("stop")), DONE)
    assert first["message"] == {"role": "assistant", "content": "", "thinking": "Hm."}
    lines = Lines(occasion(), as_response)
    first, _ = told(event(chunk(reasoning_content="Hm.")), event(chunk("stop")), DONE, lines=lines)
    assert (first["response"], first["thinking"]) == ("", "Hm.")


def test_tools_are_called_with_objects_before_the_end() -> None:
    begun = chunk(tool_calls=[{"index": 0, "id": "x", "function": {"name": "weather", "arguments": '{"city":'}}])
    rest = chunk(tool_calls=[{"index": 0, "function": {"arguments": '"Bern"}'}}])
    calls, last = told(event(begun), event(rest), event(chunk("tool_calls")), DONE)
    (call,) = calls["message"]["tool_calls"]
    assert call == {"id": "x", "function": {"index": 0, "name": "weather", "arguments": {"city": "Bern"}}}
    assert (calls["done"], last["done_reason"]) == (False, "stop")


@pytest.mark.parametrize(("reason", "expected"), [("stop", "stop"), ("length", "length"), ("tool_calls", "stop")])
def test_why_it_ended(reason: str, expected: str) -> None:
    assert told(event(chunk(reason)), DONE)[-1]["done_reason"] == expected


def test_infill_of_the_engine_itself() -> None:
    parts = event({"content": "ab", "stop": False}), event({"content": "", "stop": True, "stop_type": "limit"})
    first, last = told(*parts, lines=Lines(occasion(), as_response))
    assert (first["response"], last["response"], last["done_reason"]) == ("ab", "", "length")


def test_a_whole_chat() -> None:
    call = {"id": "x", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}}
    message = {"content": "Hello", "reasoning_content": "Hm.", "tool_calls": [call]}
    document = {"choices": [{"message": message, "finish_reason": "length"}], "timings": TIMINGS}
    answer = json.loads(Telling(occasion(), as_message).whole(200, json.dumps(document).encode()))
    function = {"index": 0, "name": "weather", "arguments": {"city": "Bern"}}
    calls = [{"id": "x", "function": function}]
    assert answer["message"] == {"role": "assistant", "content": "Hello", "thinking": "Hm.", "tool_calls": calls}
    assert (answer["done"], answer["done_reason"], answer["eval_count"]) == (True, "length", 3)


def test_errors_are_told_in_one_string() -> None:
    error = json.dumps({"error": {"message": "too long", "code": 400}}).encode()
    for retelling in (Telling(occasion(), as_message), Vectors(occasion())):
        assert json.loads(retelling.whole(400, error)) == {"error": "too long"}
        with pytest.raises(BadResponse):
            retelling.whole(200, b"<html>")


def test_embeddings_are_in_the_order_of_the_texts() -> None:
    rows = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
    content = json.dumps({"data": rows, "usage": {"prompt_tokens": 5}}).encode()
    assert json.loads(Vectors(occasion()).whole(200, content)) == {
        "model": "m:latest",
        "embeddings": [[1.0], [2.0]],
        **DURATIONS,
        "prompt_eval_count": 5,
    }
    assert json.loads(Vectors(occasion(), one=True).whole(200, content)) == {"embedding": [1.0]}


@pytest.mark.parametrize("data", [None, [], [1], [{"embedding": "AAAA"}]])
def test_an_answer_without_embeddings_is_none(data: Any) -> None:
    with pytest.raises(BadResponse):
        Vectors(occasion()).whole(200, json.dumps({"data": data}).encode())
    with pytest.raises(BadResponse):
        Vectors(occasion()).stream()


def test_a_request_without_content_is_answered_at_once() -> None:
    assert idle(occasion(), as_response, "load") == {**AT, "response": "", "done": True, "done_reason": "load"}


def test_moments() -> None:
    assert moment(0.5) == "1970-01-01T00:00:00.500000Z"
