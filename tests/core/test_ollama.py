"""Requests of Ollama's clients in the engine's words."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from llamaproxy.core.ollama import (
    Chat,
    Embed,
    Generate,
    Named,
    chat_body,
    embedding_body,
    generate_body,
    infill_body,
    raw_body,
)

HELLO = [{"role": "user", "content": "Hello"}]


def chat(**asked: Any) -> dict[str, Any]:
    return chat_body(Chat.model_validate({"model": "m", "messages": HELLO, **asked}))


def generate(**asked: Any) -> Generate:
    return Generate.model_validate({"model": "m", "prompt": "Once", **asked})


def messages(*told: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chat(messages=told)["messages"]
    return found


def test_the_least_that_can_be_asked_streams() -> None:
    assert chat() == {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    assert chat(stream=None)["stream"] is True
    assert chat(stream=False)["stream"] is False


def test_what_is_not_known_or_null_is_passed_over() -> None:
    asked = {"options": {"temperature": None, "num_ctx": 4096, "num_gpu": 1}, "format": None, "tools": None, "x": 1}
    assert chat(**asked) == chat()


def test_options_of_one_answer_pass() -> None:
    options = {"temperature": 0.5, "top_k": 7, "min_p": 0.1, "seed": 3, "stop": ["a", "b"], "repeat_penalty": 1.2}
    body = chat(options={**options, "num_predict": 20})
    assert {key: body[key] for key in options} == options
    assert body["max_tokens"] == 20


@pytest.mark.parametrize("unlimited", [-1, -2])
def test_a_negative_limit_is_none(unlimited: int) -> None:
    assert "max_tokens" not in chat(options={"num_predict": unlimited})


@pytest.mark.parametrize(
    "wrong",
    [
        {"options": {"temperature": "hot"}},
        {"options": {"stop": [1]}},
        {"format": "yaml"},
        {"messages": [{"content": "nobody's"}]},
        {"messages": [{"role": "user", "images": [1]}]},
        {"tools": "all"},
        {"model": ""},
        {"think": []},
    ],
)
def test_wrong_types_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        chat(**wrong)


def test_format() -> None:
    schema = {"type": "object"}
    assert chat(format="json")["response_format"] == {"type": "json_object"}
    assert chat(format=schema)["response_format"]["json_schema"]["schema"] == schema
    assert "response_format" not in chat(format="")


def test_thinking_is_a_switch_or_a_level() -> None:
    assert chat(think=False)["chat_template_kwargs"] == {"enable_thinking": False}
    assert chat(think="low")["chat_template_kwargs"] == {"enable_thinking": True, "reasoning_effort": "low"}
    assert "chat_template_kwargs" not in chat()


def test_images_become_parts_of_the_message() -> None:
    (told,) = messages({"role": "user", "content": "What?", "images": ["iVBORw0", "/9j/4AA", "UklGRg"]})
    text, *pictures = told["content"]
    assert text == {"type": "text", "text": "What?"}
    assert [picture["image_url"]["url"] for picture in pictures] == [
        "data:image/png;base64,iVBORw0",
        "data:image/jpeg;base64,/9j/4AA",
        "data:image/webp;base64,UklGRg",
    ]


def test_an_image_is_never_an_address() -> None:
    (told,) = messages({"role": "user", "images": ["http://10.0.0.1/", "data:image/png;base64,iVBORw0"]})
    urls = [picture["image_url"]["url"] for picture in told["content"]]
    assert urls == ["data:image/jpeg;base64,http://10.0.0.1/", "data:image/png;base64,iVBORw0"]


def test_calls_of_tools_have_their_arguments_as_text() -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Bern"}}}
    (told,) = messages({"role": "assistant", "thinking": "Hm.", "tool_calls": [call]})
    (spelled,) = told["tool_calls"]
    assert (spelled["type"], spelled["function"]["name"]) == ("function", "weather")
    assert json.loads(spelled["function"]["arguments"]) == {"city": "Bern"}
    assert told["reasoning_content"] == "Hm."


def test_results_of_tools_find_their_calls() -> None:
    def calls(*names: str) -> dict[str, Any]:
        return {"role": "assistant", "tool_calls": [{"function": {"name": name}} for name in names]}

    def result(name: str | None) -> dict[str, Any]:
        return {"role": "tool", "tool_name": name, "content": "42"}

    told = messages(calls("a", "b", "a"), result("b"), result("a"), result("a"), calls("c"), result(None))
    made = [call["id"] for message in told for call in message.get("tool_calls", [])]
    assert len(set(made)) == 4
    answered = [message["tool_call_id"] for message in told if message["role"] == "tool"]
    assert answered == [made[1], made[0], made[2], made[3]]


def test_ids_that_are_given_stay() -> None:
    call = {"id": "x", "function": {"name": "a", "arguments": "{}"}}
    told = messages({"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "x", "content": ""})
    assert (told[0]["tool_calls"][0]["id"], told[1]["tool_call_id"]) == ("x", "x")


def test_a_result_without_any_call_is_left_to_the_engine() -> None:
    (told,) = messages({"role": "tool", "content": "42"})
    assert told["tool_call_id"]


def test_a_prompt_is_a_turn() -> None:
    body = generate_body(generate(system="Be brief.", images=["iVBOR"], options={"num_predict": 3}))
    system, user = body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in user["content"]] == ["text", "image_url"]
    assert body["max_tokens"] == 3


def test_a_raw_prompt_is_not() -> None:
    assert raw_body(generate(raw=True, format={"type": "object"}, stream=False)) == {
        "model": "m",
        "stream": False,
        "prompt": "Once",
        "json_schema": {"type": "object"},
    }
    assert raw_body(generate(format="json"))["json_schema"] == {}


def test_infill() -> None:
    body = infill_body(generate(suffix="end", options={"num_predict": 5}))
    assert (body["input_prefix"], body["input_suffix"], body["n_predict"]) == ("Once", "end", 5)


def test_embeddings() -> None:
    asked = Embed.model_validate({"model": "m", "input": ["a", "b"], "truncate": True})
    assert asked.input == ["a", "b"]
    assert embedding_body("m", ["a"], 8) == {
        "model": "m",
        "input": ["a"],
        "encoding_format": "float",
        "dimensions": 8,
    }


@pytest.mark.parametrize("nothing", [0, 0.0, "0", "0s", "0m", " 0.0h"])
def test_a_model_that_shall_be_kept_for_no_time_goes(nothing: Any) -> None:
    assert Chat.model_validate({"model": "m", "keep_alive": nothing}).unloads


@pytest.mark.parametrize("time", [None, -1, 5, "5m", "10s", "0.5s"])
def test_any_other_time_is_none(time: Any) -> None:
    assert not Chat.model_validate({"model": "m", "keep_alive": time}).unloads


def test_older_clients_say_name() -> None:
    assert Named.model_validate({"name": "m"}).said == "m"
    assert Named.model_validate({"model": "m", "name": "old"}).said == "m"
