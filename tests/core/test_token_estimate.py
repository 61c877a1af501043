"""llamaproxy.core.token_estimate: bytes to tokens, and what clients say about the length of answers."""

import json
from typing import Any

import pytest

from llamaproxy.core import routing
from llamaproxy.core.limits import Want
from llamaproxy.core.token_estimate import _PLACES, COMPLETION, MEDIUM, TEMPLATE, estimate

CHAT = "/v1/chat/completions"
JSON = "application/json"


def of(body: dict[str, Any] | bytes, path: str = CHAT, content_type: str = JSON) -> Want:
    _, endpoint = routing.resolve(path)
    assert endpoint
    return estimate(body if isinstance(body, bytes) else json.dumps(body).encode(), content_type, endpoint)


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}


@pytest.mark.parametrize(("size", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (4000, 1000)])
def test_four_bytes_are_a_token_rounded_up_and_a_chat_has_its_template(size: int, tokens: int) -> None:
    assert of(b" " * size, "/v1/completions").prompt == tokens
    for path in (CHAT, "/v1/messages", "/v1/responses"):
        assert of(b" " * size, path).prompt == tokens + TEMPLATE


@pytest.mark.parametrize("field", ["max_completion_tokens", "max_tokens", "max_output_tokens", "n_predict"])
def test_the_length_that_clients_allow(field: str) -> None:
    assert of(chat(**{field: 300})).completion == 300
    assert of(chat(**{field: 300})).stated
    assert of(json.dumps({field: 7}, indent=2).encode()).completion == 7


def test_of_several_the_largest_counts() -> None:
    assert of(chat(max_tokens=5, max_completion_tokens=500)).completion == 500
    assert of(b'{"max_tokens": 500, "max_tokens": 5}').completion == 500


def test_every_choice_is_an_answer() -> None:
    assert of(chat(max_tokens=10, n=3)).completion == 30
    assert of(chat(n=3)).completion == 3 * COMPLETION


@pytest.mark.parametrize(
    ("prompt", "answers"),
    [
        (["a", "b", "c"], 3),
        ([[1, 2], [3]], 2),
        ([{"prompt_string": "a"}, "b"], 2),
        (["a"], 1),
        ([1, 2, 3], 1),
        ([], 1),
        ("a", 1),
    ],
)
def test_every_prompt_has_its_answers(prompt: Any, answers: int) -> None:
    for path in ("/v1/completions", "/completion"):
        assert of({"prompt": prompt, "max_tokens": 10}, path).completion == 10 * answers
    assert of({"prompt": prompt, "max_tokens": 10, "n": 2}, "/v1/completions").completion == 20 * answers


def test_prompts_of_a_large_body_are_not_for_free() -> None:
    assert of({"prompt": ["x" * 100_000] * 20, "max_tokens": 10}, "/v1/completions").completion == 200
    assert of({"prompt": ['"a",' * 500_000], "max_tokens": 10}, "/v1/completions").completion == 10


@pytest.mark.parametrize("body", [b'{"a":{"prompt":["a","b"]},"max_tokens":7}', b'{"prompt":["a","b"],"max_tokens":7,'])
def test_lists_elsewhere_and_what_is_no_json_have_one_answer(body: bytes) -> None:
    assert of(body, "/v1/completions").completion == 7


@pytest.mark.parametrize("value", [None, -1, "100", 1e3, 12.5, [5], {"a": 1}])
def test_what_is_no_length_is_a_guess(value: Any) -> None:
    found = of(chat(max_tokens=value))
    assert (found.completion, found.stated) == (COMPLETION, False)


def test_none_at_all_is_one_as_llama_server_has_it() -> None:
    assert of(chat(max_tokens=0)) == Want(of(chat(max_tokens=0)).prompt, 1)


def test_words_of_a_prompt_are_no_wish() -> None:
    text = 'say {"max_tokens": 1, "n": 5}'
    assert of({"messages": [{"role": "user", "content": text}]}).stated is False


def test_huge_numbers_are_bounded() -> None:
    assert of(chat(max_tokens=10**17, n=10**8)).completion <= 10**9


def test_a_picture_is_not_its_bytes() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}
    assert MEDIUM <= of(chat(images=[picture])).prompt < MEDIUM + 100
    assert 2 * MEDIUM <= of(chat(images=[picture, picture])).prompt < 2 * MEDIUM + 100


def test_a_recording_is_not_its_bytes() -> None:
    form = of(b"x" * 1_000_000, "/v1/audio/transcriptions", "multipart/form-data; boundary=b")
    assert form == Want(MEDIUM, COMPLETION, stated=False)


def test_bodies_of_nothing_else_keep_nobody_waiting() -> None:
    """Only so many places are looked at. Who hides what it wants behind them is settled with what it took."""
    hidden = b'"n": 9, ' * _PLACES + b'"n": 50}'
    assert of(b'{"max_tokens": 10, ' + hidden).completion == 90
    pictures = of(b'"data:;base64,AAAA" ' * 10_000)
    assert pictures.prompt < _PLACES * MEDIUM + 50_000


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank"])
def test_what_generates_nothing(path: str) -> None:
    assert of({"input": "x" * 80}, path).completion == 0
    assert of({"input": "x" * 80}, path).prompt >= 20


def test_light_requests_are_free_and_take_no_place() -> None:
    assert of({"content": "x" * 400}, "/tokenize") == Want(place=False)
