"""ollama, at the port for it."""

import contextlib
from typing import Any

import ollama

from tests.clients import check

HELLO: Any = [{"role": "user", "content": check.WORDS}]
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": check.WEATHER}}]
SHORT = {"num_predict": check.SHORT}


def client(key: str = check.KEY) -> ollama.Client:
    return ollama.Client(check.OLLAMA, headers={"Authorization": f"Bearer {key}"})


def models() -> str:
    assert check.MODEL in [model.model for model in client().list().models]
    shown = client().show(check.MODEL)
    assert shown.capabilities
    assert isinstance(client().ps().models, list | tuple)
    return f"list, show, ps; {', '.join(shown.capabilities)}"


def chat() -> str:
    answer = client().chat(check.MODEL, HELLO, options=SHORT)
    assert answer.message.content
    assert 0 < (answer.eval_count or 0) <= check.SHORT
    assert client().generate(check.MODEL, check.WORDS, options=SHORT).response
    return "chat, generate"


def stream() -> str:
    parts = list(client().chat(check.MODEL, HELLO, options=SHORT, stream=True))
    check.several([part for part in parts if part.message.content])
    assert parts[-1].done
    check.several(list(client().generate(check.MODEL, check.WORDS, options=SHORT, stream=True)))
    return "chat, generate"


def tools() -> str:
    answer = client().chat(check.MODEL, HELLO, tools=TOOLS, options=SHORT)
    shaped = client().chat(check.MODEL, HELLO, format=check.WEATHER, options={"num_predict": check.SHAPED})
    assert '"city"' in (shaped.message.content or "")
    return f"{check.called([call.function.name for call in answer.message.tool_calls or []])}; format"


def embeddings() -> str:
    vectors = client().embed(check.VECTORS, ["one", "two"]).embeddings
    assert len(vectors) == 2
    assert list(client().embeddings(check.VECTORS, "one").embedding) == list(vectors[0])
    return f"{len(vectors[0])} dimensions, embed and embeddings"


def errors() -> str:
    missing: Any = check.raised(ollama.ResponseError, lambda: client().chat(check.NOBODY, HELLO))
    assert missing.status_code == 404, missing
    stranger: Any = check.raised(ollama.ResponseError, client(check.WRONG_KEY).list)
    assert stranger.status_code == 401, stranger
    return "ResponseError with 404, 401"


def cancel() -> str:
    parts: Any = client().chat(check.MODEL, HELLO, options={"num_predict": check.LONG}, stream=True)
    with contextlib.closing(parts):
        next(parts)
    return check.abandoned()


if __name__ == "__main__":
    check.run(
        "ollama",
        models=models,
        chat=chat,
        stream=stream,
        tools=tools,
        embeddings=embeddings,
        errors=errors,
        cancel=cancel,
    )
