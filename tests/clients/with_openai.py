"""openai for Python."""

import openai
from openai.types.chat import ChatCompletionToolParam, ChatCompletionUserMessageParam

from tests.clients import check

CLIENT = openai.OpenAI(base_url=check.BASE, api_key=check.KEY, max_retries=0)
HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": check.WORDS}]
TOOLS: list[ChatCompletionToolParam] = [
    {"type": "function", "function": {"name": "weather", "parameters": check.WEATHER}}
]


def models() -> str:
    assert check.MODEL in [model.id for model in CLIENT.models.list()]
    assert CLIENT.models.retrieve(check.MODEL).id == check.MODEL
    return "list, retrieve"


def chat() -> str:
    answer = CLIENT.chat.completions.create(model=check.MODEL, messages=HELLO, max_tokens=check.SHORT)
    assert answer.choices[0].message.content
    assert answer.usage and answer.usage.completion_tokens <= check.SHORT
    response = CLIENT.responses.create(model=check.MODEL, input=check.WORDS, max_output_tokens=16)
    assert response.output_text
    return "chat, responses"


def stream() -> str:
    chunks = list(
        CLIENT.chat.completions.create(
            model=check.MODEL,
            messages=HELLO,
            max_tokens=check.SHORT,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    check.several([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content])
    assert chunks[-1].usage
    events = list(CLIENT.responses.create(model=check.MODEL, input=check.WORDS, max_output_tokens=16, stream=True))
    assert events[-1].type in ("response.completed", "response.incomplete"), events[-1].type
    return "chat with usage, responses"


def tools() -> str:
    answer = CLIENT.chat.completions.create(
        model=check.MODEL, messages=HELLO, max_tokens=check.SHORT, tools=TOOLS, tool_choice="required"
    )
    calls = answer.choices[0].message.tool_calls or []
    return check.called([call.function.name for call in calls if call.type == "function"])


def embeddings() -> str:
    vectors = CLIENT.embeddings.create(model=check.VECTORS, input=["one", "two"]).data
    assert len(vectors) == 2 and all(one.embedding for one in vectors)
    return f"{len(vectors[0].embedding)} dimensions"


def errors() -> str:
    missing = check.raised(
        openai.NotFoundError, lambda: CLIENT.chat.completions.create(model=check.NOBODY, messages=HELLO)
    )
    assert isinstance(missing, openai.NotFoundError) and missing.code == "model_not_found"
    check.raised(openai.AuthenticationError, lambda: CLIENT.with_options(api_key=check.WRONG_KEY).models.list())
    return "NotFoundError, AuthenticationError"


def cancel() -> str:
    stream = CLIENT.chat.completions.create(model=check.MODEL, messages=HELLO, max_tokens=check.LONG, stream=True)
    next(iter(stream))
    stream.close()
    return check.abandoned()


if __name__ == "__main__":
    check.run(
        "openai",
        models=models,
        chat=chat,
        stream=stream,
        tools=tools,
        embeddings=embeddings,
        errors=errors,
        cancel=cancel,
    )
