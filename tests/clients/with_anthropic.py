"""anthropic."""

from typing import Any

import anthropic

from tests.clients import check

CLIENT = anthropic.Anthropic(base_url=check.URL, api_key=check.KEY, max_retries=0)
HELLO: Any = [{"role": "user", "content": check.WORDS}]
TOOLS: Any = [{"name": "weather", "input_schema": check.WEATHER}]


def models() -> None:
    assert check.MODEL in [model.id for model in CLIENT.models.list()]


def chat() -> str:
    answer = CLIENT.messages.create(model=check.MODEL, max_tokens=check.SHORT, messages=HELLO)
    assert answer.content[0].type == "text" and answer.content[0].text
    assert 0 < answer.usage.output_tokens <= check.SHORT
    assert CLIENT.messages.count_tokens(model=check.MODEL, messages=HELLO).input_tokens > 0
    return "messages, count_tokens"


def stream() -> None:
    with CLIENT.messages.stream(model=check.MODEL, max_tokens=check.SHORT, messages=HELLO) as stream:
        check.several(list(stream.text_stream))
        assert stream.get_final_message().usage.output_tokens <= check.SHORT


def tools() -> str:
    answer = CLIENT.messages.create(
        model=check.MODEL, max_tokens=check.SHORT, messages=HELLO, tools=TOOLS, tool_choice={"type": "any"}
    )
    return check.called([block.name for block in answer.content if block.type == "tool_use"])


def errors() -> str:
    missing = check.raised(
        anthropic.NotFoundError,
        lambda: CLIENT.messages.create(model=check.NOBODY, max_tokens=check.SHORT, messages=HELLO),
    )
    assert "not_found_error" in str(missing), missing
    stranger = CLIENT.with_options(api_key=check.WRONG_KEY)
    check.raised(
        anthropic.AuthenticationError,
        lambda: stranger.messages.create(model=check.MODEL, max_tokens=check.SHORT, messages=HELLO),
    )
    return "NotFoundError, AuthenticationError"


def cancel() -> str:
    with CLIENT.messages.stream(model=check.MODEL, max_tokens=check.LONG, messages=HELLO) as stream:
        next(iter(stream.text_stream))
    return check.abandoned()


if __name__ == "__main__":
    check.run("anthropic", models=models, chat=chat, stream=stream, tools=tools, errors=errors, cancel=cancel)
