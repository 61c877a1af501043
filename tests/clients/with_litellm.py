"""litellm, as a library."""

from typing import Any

import litellm

from tests.clients import check

HELLO = [{"role": "user", "content": check.WORDS}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": check.WEATHER}}]


def ask(model: str = check.MODEL, key: str = check.KEY, **more: Any) -> Any:
    settings = {"max_tokens": check.SHORT, "num_retries": 0, **more}
    return litellm.completion(f"openai/{model}", messages=HELLO, api_base=check.BASE, api_key=key, **settings)


def models() -> None:
    names = litellm.get_valid_models(
        check_provider_endpoint=True, custom_llm_provider="openai", api_key=check.KEY, api_base=check.BASE
    )
    assert any(name.endswith(check.MODEL) for name in names), names


def chat() -> None:
    answer = ask()
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens <= check.SHORT


def stream() -> None:
    check.several([chunk for chunk in ask(stream=True) if chunk.choices[0].delta.content])


def tools() -> str:
    calls = ask(tools=TOOLS, tool_choice="required").choices[0].message.tool_calls or []
    return check.called([call.function.name for call in calls])


def embeddings() -> str:
    model = f"openai/{check.VECTORS}"
    answer = litellm.embedding(model, input=["one", "two"], api_base=check.BASE, api_key=check.KEY)
    assert len(answer.data) == 2
    return f"{len(answer.data[0]['embedding'])} dimensions"


def errors() -> str:
    check.raised(litellm.NotFoundError, lambda: ask(check.NOBODY))
    check.raised(litellm.AuthenticationError, lambda: ask(key=check.WRONG_KEY))
    return "NotFoundError, AuthenticationError"


def cancel() -> str:
    stream = ask(stream=True, max_tokens=check.LONG)
    next(iter(stream))
    stream.completion_stream.close()
    return check.abandoned()


if __name__ == "__main__":
    check.run(
        "litellm",
        models=models,
        chat=chat,
        stream=stream,
        tools=tools,
        embeddings=embeddings,
        errors=errors,
        cancel=cancel,
    )
