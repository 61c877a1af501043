"""The fake llama-server's answers, in every dialect."""

import json
import re
import time

import pytest

from tests.fake.harness import CHAT, Starter, chat, read_until, rest


def test_unary_chat(start: Starter) -> None:
    fake = start().ready()
    answer = fake.ask("POST", CHAT, chat(max_tokens=3)).json
    assert answer["choices"][0]["message"]["content"] == f"tiny:{fake.process.pid} word2 word3"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"] | {"prompt_tokens": 0, "total_tokens": 0} == {
        "completion_tokens": 3,
        "prompt_tokens": 0,
        "total_tokens": 0,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    timings = answer["timings"]
    assert timings["cache_n"] + timings["prompt_n"] == answer["usage"]["prompt_tokens"] > 0
    assert timings["predicted_n"] == 3
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + 3


def test_without_a_limit_the_answer_has_eight_words_and_stops(start: Starter) -> None:
    answer = start().ready().ask("POST", CHAT, chat()).json
    assert len(answer["choices"][0]["message"]["content"].split()) == 8
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_streamed_chat(start: Starter) -> None:
    fake = start("-a", "name").ready()
    answer = fake.ask("POST", CHAT, chat(stream=True, max_tokens=2))
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body.endswith(b"data: [DONE]\n\n")
    deltas = [event["choices"][0]["delta"] for event in answer.events]
    words = [{"content": f"name:{fake.process.pid}"}, {"content": " word2"}]
    assert deltas == [{"role": "assistant", "content": None}, *words, {}]
    assert [event["choices"][0]["finish_reason"] for event in answer.events] == [None, None, None, "length"]
    assert ["timings" in event for event in answer.events] == [False, False, False, True]
    assert not any("usage" in event for event in answer.events)


def test_streamed_chat_with_usage_has_an_extra_chunk(start: Starter) -> None:
    body = chat(stream=True, max_tokens=2, stream_options={"include_usage": True})
    *others, last, usage = start().ready().ask("POST", CHAT, body).events
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == usage["timings"]["predicted_n"] == 2
    assert last["choices"][0]["finish_reason"] == "length"
    assert not any("timings" in event for event in [*others, last])


def test_timings_per_token_and_progress(start: Starter) -> None:
    body = chat(stream=True, max_tokens=2, timings_per_token=True, return_progress=True)
    progress, _, one, two, _ = start().ready().ask("POST", CHAT, body).events
    total = progress["prompt_progress"]["total"]
    assert progress["prompt_progress"]["processed"] == total > 0
    assert [event["timings"]["predicted_n"] for event in (one, two)] == [1, 2]


def test_completions(start: Starter) -> None:
    fake = start().ready()
    whole = fake.ask("POST", "/v1/completions", {"prompt": "one two", "max_tokens": 2}).json
    assert whole["usage"]["prompt_tokens"] == 2
    answer = fake.ask("POST", "/v1/completions", {"prompt": "one two", "max_tokens": 2, "stream": True})
    assert "".join(event["choices"][0]["text"] for event in answer.events) == whole["choices"][0]["text"]
    assert answer.events[-1]["usage"]["completion_tokens"] == answer.events[-1]["timings"]["predicted_n"] == 2
    assert answer.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("path", ["/completion", "/completions"])
def test_native_completion_streams_without_done(start: Starter, path: str) -> None:
    fake = start().ready()
    answer = fake.ask("POST", path, {"prompt": "one two", "n_predict": 2, "stream": True})
    assert [event["stop"] for event in answer.events] == [False, False, True]
    assert [event["tokens_predicted"] for event in answer.events] == [1, 2, 2]
    assert b"[DONE]" not in answer.body
    unary = fake.ask("POST", path, {"prompt": "one two", "n_predict": 2}).json
    assert unary["content"] == "".join(event["content"] for event in answer.events)


def test_messages(start: Starter) -> None:
    fake = start().ready()
    fake.ask("POST", "/v1/messages", chat(system="be short", max_tokens=2))
    whole = fake.ask("POST", "/v1/messages", chat(system="be short", max_tokens=2)).json
    # The repeated prompt is cached but for the one token that is always evaluated.
    assert whole["usage"] == {"cache_read_input_tokens": 8, "input_tokens": 1, "output_tokens": 2}
    assert "timings" not in whole
    answer = fake.ask("POST", "/v1/messages", chat(stream=True, max_tokens=2))
    names = [line[7:] for line in answer.body.decode().splitlines() if line.startswith("event: ")]
    assert names == [event["type"] for event in answer.events]
    assert names[:2] == ["message_start", "content_block_start"]
    assert names[2:] == ["content_block_delta"] * 2 + ["content_block_stop", "message_delta", "message_stop"]
    assert answer.events[-2]["usage"] == {"output_tokens": 2}
    assert b"[DONE]" not in answer.body
    assert b"timings" not in answer.body


def test_responses(start: Starter) -> None:
    fake = start().ready()
    whole = fake.ask("POST", "/v1/responses", {"input": "hi", "max_output_tokens": 2}).json
    assert whole["usage"]["output_tokens"] == 2
    assert "timings" not in whole
    answer = fake.ask("POST", "/v1/responses", {"input": "hi", "max_output_tokens": 2, "stream": True})
    assert answer.events[0]["type"] == "response.created"
    last = answer.events[-1]
    assert last["type"] == "response.completed"
    assert last["timings"]["predicted_n"] == last["response"]["usage"]["output_tokens"] == 2
    text = "".join(event["delta"] for event in answer.events if event["type"] == "response.output_text.delta")
    assert text == last["response"]["output"][0]["content"][0]["text"] == whole["output"][0]["content"][0]["text"]
    assert b"[DONE]" not in answer.body


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank", "/infill", "/slots/0?action=save"])
def test_what_is_not_there_is_501(start: Starter, path: str) -> None:
    answer = start().ready().ask("POST", path, {"input": "x"})
    assert (answer.status, answer.json["error"]["type"]) == (501, "not_supported_error")
    assert answer.json["error"]["code"] == 501


def test_pages_that_flags_open_and_close(start: Starter) -> None:
    fake = start("--no-slots", "--embeddings").ready()
    assert [fake.ask("GET", path).status for path in ("/slots", "/metrics")] == [501, 501]
    answer = fake.ask("POST", "/v1/embeddings", {"input": ["a", "b c"]}).json
    assert [item["index"] for item in answer["data"]] == [0, 1]
    assert answer["usage"]["prompt_tokens"] > 0


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (CHAT, {}, 400),
        (CHAT, {"messages": "x"}, 400),
        ("/v1/completions", ["prompt"], 400),
        ("/v1/completions", {}, 400),
        ("/v1/responses", {}, 400),
        ("/v1/messages", {}, 500),  # the real one's answer, too
    ],
)
def test_bad_requests(start: Starter, path: str, body: object, status: int) -> None:
    answer = start().ready().ask("POST", path, body)
    assert (answer.status, answer.json["error"]["code"]) == (status, status)


def test_body_that_is_not_json(start: Starter) -> None:
    with start().ready().raw(b"POST /completion HTTP/1.1\r\nContent-Length: 1\r\n\r\n{") as connection:
        assert rest(connection).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(("arguments", "context"), [(("-c", "100"), 100), (("-c", "100", "-np", "4"), 25)])
def test_prompt_beyond_the_context_of_a_slot(start: Starter, arguments: tuple[str, ...], context: int) -> None:
    fake = start(*arguments).ready()
    assert fake.ask("POST", "/completion", {"prompt": "w " * (context - 1)}).status == 200
    error = fake.ask("POST", "/completion", {"prompt": "w " * context})
    assert error.status == 400
    assert error.json["error"] | {"message": ""} == {
        "message": "",
        "type": "exceed_context_size_error",
        "code": 400,
        "n_prompt_tokens": context,
        "n_ctx": context,
    }


def test_counting(start: Starter) -> None:
    fake = start().ready()
    for path in "/v1/messages/count_tokens", "/v1/chat/completions/input_tokens":
        count = fake.ask("POST", path, chat()).json["input_tokens"]
        assert count == fake.ask("POST", CHAT, chat()).json["usage"]["prompt_tokens"]


def test_paces(start: Starter) -> None:
    fake = start(PREFILL_SECONDS=0.2, TOKEN_SECONDS=0.05, TOKEN_BYTES=100).ready()
    began = time.monotonic()
    with fake.post(CHAT, chat(stream=True, max_tokens=6)) as connection:
        first = connection.recv(1 << 16)
        assert time.monotonic() - began >= 0.2
        whole = first + read_until(connection, b"[DONE]")
    assert time.monotonic() - began >= 0.2 + 6 * 0.05
    assert {len(word) for word in re.findall(rb'"content":"(.*?)"', whole)} == {100}
    timings = json.loads(re.findall(rb'"timings":({.*?})', whole)[0])
    assert timings["prompt_ms"] >= 200
    assert timings["predicted_ms"] >= 250


def test_metrics_count_what_was_answered(start: Starter) -> None:
    fake = start("--metrics").ready()
    usage = fake.ask("POST", CHAT, chat(max_tokens=5)).json["usage"]
    fake.ask("POST", CHAT, chat(max_tokens=5))
    assert fake.metric("prompt_tokens_total") == usage["prompt_tokens"] + 1
    assert fake.metric("prompt_tokens_cached_total") == usage["prompt_tokens"] - 1
    assert fake.metric("tokens_predicted_total") == 10
    assert fake.metric("requests_processing") == fake.metric("requests_deferred") == 0
