"""pydantic-ai, with its OpenAI model."""

import asyncio
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients import check


class Weather(BaseModel):
    city: Literal["Paris", "Rome"]


def agent(model: str = check.MODEL, key: str = check.KEY, tokens: int = check.SHORT, **more: Any) -> Any:
    provider = OpenAIProvider(base_url=check.BASE, api_key=key)
    return Agent(OpenAIChatModel(model, provider=provider), model_settings={"max_tokens": tokens}, **more)


def chat() -> None:
    answer = agent().run_sync(check.WORDS)
    assert answer.output


def stream() -> None:
    async def read() -> list[str]:
        async with agent().run_stream(check.WORDS) as answer:
            return [piece async for piece in answer.stream_text(delta=True, debounce_by=None)]

    check.several(asyncio.run(read()))


def tools() -> str:
    shaped = agent(tokens=check.SHAPED, output_type=NativeOutput(Weather)).run_sync(check.WORDS)
    assert shaped.output.city in ("Paris", "Rome")
    called: list[str] = []

    def weather(city: str) -> str:
        called.append("weather")
        return "rain"

    agent(tools=[weather]).run_sync(check.WORDS)
    return f"{check.called(called)}; NativeOutput"


def errors() -> str:
    missing = check.raised(ModelHTTPError, lambda: agent(check.NOBODY).run_sync(check.WORDS))
    assert isinstance(missing, ModelHTTPError) and missing.status_code == 404
    denied = check.raised(ModelHTTPError, lambda: agent(key=check.WRONG_KEY).run_sync(check.WORDS))
    assert isinstance(denied, ModelHTTPError) and denied.status_code == 401
    return "ModelHTTPError 404, 401"


def cancel() -> str:
    async def leave() -> None:
        async with agent(tokens=check.LONG).run_stream(check.WORDS) as answer:
            pieces = answer.stream_text(delta=True, debounce_by=None)
            await anext(pieces)
            await pieces.aclose()
            await answer.cancel()

    asyncio.run(leave())
    return check.abandoned()


if __name__ == "__main__":
    check.run("pydantic-ai-slim", chat=chat, stream=stream, tools=tools, errors=errors, cancel=cancel)
