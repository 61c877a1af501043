"""langchain-openai."""

from typing import Any

import openai
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from tests.clients import check

TOOL = {"type": "function", "function": {"name": "weather", "description": "now", "parameters": check.WEATHER}}


def client(model: str = check.MODEL, key: str = check.KEY, tokens: int = check.SHORT) -> Any:
    return ChatOpenAI(base_url=check.BASE, api_key=key, model=model, max_tokens=tokens, max_retries=0)


def chat() -> None:
    answer = client().invoke(check.WORDS)
    assert answer.content
    assert answer.usage_metadata["output_tokens"] <= check.SHORT


def stream() -> None:
    check.several([chunk for chunk in client().stream(check.WORDS) if chunk.content])


def tools() -> str:
    calls = client().bind_tools([TOOL], tool_choice="required").invoke(check.WORDS).tool_calls
    shaped = client(tokens=check.SHAPED).with_structured_output(
        {"title": "weather", **check.WEATHER}, method="json_schema"
    )
    assert shaped.invoke(check.WORDS)["city"] in ("Paris", "Rome")
    return f"{check.called([call['name'] for call in calls])}; structured output"


def embeddings() -> str:
    plain: Any = OpenAIEmbeddings(
        base_url=check.BASE, api_key=check.KEY, model=check.VECTORS, check_embedding_ctx_length=False, max_retries=0
    )
    vectors = plain.embed_documents(["one", "two"])
    assert len(vectors) == 2
    return f"{len(vectors[0])} dimensions, with check_embedding_ctx_length=False"


def errors() -> str:
    check.raised(openai.NotFoundError, lambda: client(check.NOBODY).invoke(check.WORDS))
    check.raised(openai.AuthenticationError, lambda: client(key=check.WRONG_KEY).invoke(check.WORDS))
    return "openai.NotFoundError, openai.AuthenticationError"


def cancel() -> str:
    stream = client(tokens=check.LONG).stream(check.WORDS)
    next(stream)
    stream.close()
    return check.abandoned()


if __name__ == "__main__":
    check.run(
        "langchain-openai", chat=chat, stream=stream, tools=tools, embeddings=embeddings, errors=errors, cancel=cancel
    )
