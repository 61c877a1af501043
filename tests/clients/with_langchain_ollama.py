"""langchain-ollama, at the port for Ollama's clients."""

from typing import Any

import ollama
from langchain_ollama import ChatOllama, OllamaEmbeddings

from tests.clients import check

TOOL = {"type": "function", "function": {"name": "weather", "description": "now", "parameters": check.WEATHER}}


def headers(key: str) -> dict[str, Any]:
    return {"headers": {"Authorization": f"Bearer {key}"}}


def client(model: str = check.MODEL, key: str = check.KEY, tokens: int = check.SHORT, **settings: Any) -> Any:
    return ChatOllama(base_url=check.OLLAMA, model=model, num_predict=tokens, client_kwargs=headers(key), **settings)


def models() -> str:
    client(validate_model_on_init=True)
    return "validate_model_on_init"


def chat() -> None:
    answer = client().invoke(check.WORDS)
    assert answer.content
    assert answer.usage_metadata["output_tokens"] <= check.SHORT


def stream() -> None:
    check.several([chunk for chunk in client().stream(check.WORDS) if chunk.content])


def tools() -> str:
    calls = client().bind_tools([TOOL]).invoke(check.WORDS).tool_calls
    shaped = client(tokens=check.SHAPED).with_structured_output(
        {"title": "weather", **check.WEATHER}, method="json_schema"
    )
    assert shaped.invoke(check.WORDS)["city"] in ("Paris", "Rome")
    return f"{check.called([call['name'] for call in calls])}; structured output"


def embeddings() -> str:
    plain: Any = OllamaEmbeddings(base_url=check.OLLAMA, model=check.VECTORS, client_kwargs=headers(check.KEY))
    vectors = plain.embed_documents(["one", "two"])
    assert len(vectors) == 2
    return f"{len(vectors[0])} dimensions"


def errors() -> str:
    missing: Any = check.raised(ollama.ResponseError, lambda: client(check.NOBODY).invoke(check.WORDS))
    assert missing.status_code == 404, missing
    stranger: Any = check.raised(ollama.ResponseError, lambda: client(key=check.WRONG_KEY).invoke(check.WORDS))
    assert stranger.status_code == 401, stranger
    return "ollama.ResponseError with 404, 401"


def cancel() -> str:
    stream = client(tokens=check.LONG).stream(check.WORDS)
    next(stream)
    stream.close()
    return check.abandoned()


if __name__ == "__main__":
    check.run(
        "langchain-ollama",
        models=models,
        chat=chat,
        stream=stream,
        tools=tools,
        embeddings=embeddings,
        errors=errors,
        cancel=cancel,
    )
