"""llamaproxy.loadtest.answer: when tokens came, how many they are, and what is no answer."""

import json
from typing import Any

import pytest

from llamaproxy.loadtest import answer as module
from llamaproxy.loadtest.answer import Answer, Watch

STREAM = "text/event-stream"
DONE = b"data: [DONE]\n\n"
USAGE = {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}}
WHOLE = {"choices": [{"message": {"content": "x"}}], "usage": USAGE["usage"]}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def event(document: Any) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def token(**delta: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": delta or {"content": "x"}, "finish_reason": None}]})


ROLE = token(role="assistant", content=None)


def streamed(*pieces: bytes) -> Answer:
    """Each comes a second after the last."""
    clock = Clock()
    watch = Watch(clock)
    watch.head(200, STREAM)
    for piece in pieces:
        clock.now += 1
        watch.feed(piece)
    return watch.ended()


def whole(status: int, body: bytes, kind: str = "application/json") -> Answer:
    watch = Watch(Clock())
    watch.head(status, kind)
    watch.feed(body)
    return watch.ended()


def test_the_first_token_is_the_first_event_with_content() -> None:
    answer = streamed(b": waiting\n\n", ROLE, token(), token(), event(USAGE) + DONE)
    assert (answer.fault, answer.first, list(answer.gaps), answer.seconds) == ("", 3.0, [1.0], 5.0)


def test_reasoning_and_tool_calls_are_tokens_too() -> None:
    called = [{"index": 0, "function": {"arguments": "{"}}]
    answer = streamed(token(reasoning_content="x"), token(tool_calls=called), token(), DONE)
    assert (answer.first, list(answer.gaps), answer.generating) == (1.0, [1.0, 1.0], 2.0)


def test_events_may_be_cut_anywhere() -> None:
    text = token() + token() + DONE
    answer = streamed(*(text[at : at + 7] for at in range(0, len(text), 7)))
    assert (answer.fault, answer.usage.completion, len(answer.gaps)) == ("", 2, 1)


def test_the_servers_count_is_believed() -> None:
    answer = streamed(token(), token(), event(USAGE), DONE)
    assert (answer.usage.completion, answer.usage.prompt, answer.usage.exact) == (5, 12, True)


def test_events_are_counted_where_the_server_says_nothing() -> None:
    answer = streamed(token(), token(), DONE)
    assert (answer.usage.completion, answer.usage.prompt, answer.usage.exact) == (2, None, False)


@pytest.mark.parametrize(
    ("pieces", "fault"),
    [
        ([token()], "the stream ended without [DONE]"),
        ([ROLE, DONE], "a stream without a token"),
        ([token(), event({"error": {"code": "model_unavailable"}})], "error in the stream: model_unavailable"),
        ([token(), event({"error": {"code": "model_unavailable"}}), DONE], "error in the stream: model_unavailable"),
        ([token(), event({"error": "no"}), DONE], "error in the stream: no"),
    ],
)
def test_streams_that_are_no_answer(pieces: list[bytes], fault: str) -> None:
    assert streamed(*pieces).fault == fault


def test_an_answer_in_one_piece() -> None:
    answer = whole(200, json.dumps(WHOLE).encode())
    assert (answer.fault, answer.first, list(answer.gaps)) == ("", None, [])
    assert (answer.usage.completion, answer.usage.exact) == (5, True)


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (200, b"", "status 200 without choices"),
        (200, b'{"choices": []}', "status 200 without choices"),
        (200, b"[1]", "status 200 without choices"),
        (200, b'{"error": {"type": "bad"}}', "error with status 200: bad"),
        (503, b'{"error": {"code": "queue_full", "message": "m"}}', "HTTP 503 queue_full"),
        (404, b'{"error": {"code": null, "message": "none"}}', "HTTP 404 none"),
        (400, b'{"error": {"a": 1}}', "HTTP 400 unknown"),
        (502, b"<html>", "HTTP 502"),
        (302, b"", "HTTP 302"),
        (500, b'{"error": "' + b"x" * 500 + b'"}', "HTTP 500 " + 70 * "x" + "…"),
    ],
)
def test_bodies_that_are_no_answer(status: int, body: bytes, fault: str) -> None:
    answer = whole(status, body)
    assert (answer.fault, answer.status, answer.usage.completion) == (fault, status, 0)


def test_an_error_that_calls_itself_a_stream_is_one() -> None:
    assert whole(500, b'{"error": "no"}', STREAM).fault == "HTTP 500 no"


def test_what_the_connection_suffered_comes_first() -> None:
    watch = Watch(Clock())
    watch.head(200, STREAM)
    watch.feed(token())
    answer = watch.ended("reset", late=True)
    assert (answer.fault, answer.late, answer.first) == ("reset", True, 0.0)


def test_an_answer_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1024**2)
    watch = Watch(Clock())
    watch.head(200, "text/plain")
    assert watch.feed(bytes(1024**2))
    assert not watch.feed(b"x")
    assert watch.ended().fault == "an answer of more than 1 MiB"
