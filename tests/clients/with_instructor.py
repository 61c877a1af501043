"""instructor: answers of a shape, by JSON schema and by tools."""

from typing import Any, Literal

import instructor
import openai
from pydantic import BaseModel

from tests.clients import check

HELLO: Any = [{"role": "user", "content": check.WORDS}]


class Weather(BaseModel):
    city: Literal["Paris", "Rome"]


def client(mode: instructor.Mode = instructor.Mode.JSON_SCHEMA, key: str = check.KEY) -> Any:
    return instructor.from_openai(openai.OpenAI(base_url=check.BASE, api_key=key, max_retries=0), mode=mode)


def ask(mode: instructor.Mode, **more: Any) -> Any:
    settings = {"model": check.MODEL, "max_tokens": check.SHAPED, "max_retries": 0, **more}
    return client(mode).chat.completions.create(messages=HELLO, response_model=Weather, **settings)


def chat() -> str:
    assert ask(instructor.Mode.JSON_SCHEMA).city in ("Paris", "Rome")
    return "JSON_SCHEMA"


def stream() -> str:
    partial = client().chat.completions.create_partial(
        messages=HELLO, model=check.MODEL, max_tokens=check.SHAPED, max_retries=0, response_model=Weather
    )
    assert list(partial)[-1].city in ("Paris", "Rome")
    return "create_partial"


def tools() -> str:
    """The bundled model calls no tool, which instructor is right not to take for an answer."""
    try:
        assert ask(instructor.Mode.TOOLS).city in ("Paris", "Rome")
    except openai.APIError:
        raise
    except Exception as error:  # the bundled model calls no tools; what is made of that differs
        return f"accepted, not called: {type(error).__name__}"
    return "called"


def errors() -> str:
    error = check.raised(Exception, lambda: ask(instructor.Mode.JSON_SCHEMA, model=check.NOBODY))
    assert "model_not_found" in str(error), error
    return type(error).__name__


def cancel() -> str:
    stream = client().chat.completions.create(
        messages=HELLO, model=check.MODEL, max_tokens=check.LONG, response_model=None, stream=True
    )
    next(iter(stream))
    stream.close()
    return check.abandoned()


if __name__ == "__main__":
    check.run("instructor", chat=chat, stream=stream, tools=tools, errors=errors, cancel=cancel)
