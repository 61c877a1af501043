"""What clients of Ollama ask, and the same in the words of the engine.

Pure. Owns the shapes of Ollama's requests, and which of its options mean something here: those of one answer do, those
of loading a model are the configuration's, and are passed over. How an answer is told is `ollama_answer`'s. Facts:
Ollama's API reference, llama-server b11434.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

Json = dict[str, Any]

_AT_ONCE = re.compile(r"\s*0+(?:\.0+)?(?:ns|us|µs|ms|s|m|h)?\s*")
"""A `keep_alive` of nothing, as a number or as Go spells durations."""
_SAME = tuple(
    "temperature top_p top_k min_p typical_p seed stop repeat_penalty repeat_last_n presence_penalty "
    "frequency_penalty mirostat mirostat_tau mirostat_eta".split()
)
"""Options that have the same name with the engine."""
_DATA = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,")
_IMAGES = {"iVBOR": "png", "R0lGOD": "gif", "UklGR": "webp"}
"""How files of these types begin in base64; what is none of them passes for a JPEG."""


class _Asked(BaseModel):
    """What is not known here is passed over, as Ollama does. Its clients send null for what they do not say."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Options(_Asked):
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    seed: int | None = None
    stop: list[str] | str | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    num_predict: int | None = None


class Named(_Asked):
    """A request about one model, which some routes called `name` once."""

    model: str | None = None
    name: str | None = None

    @property
    def said(self) -> str | None:
        return self.model or self.name


class _OfModel(_Asked):
    model: str = Field(min_length=1)
    keep_alive: float | str | None = None
    options: Options | None = None

    @property
    def unloads(self) -> bool:
        """Whether the model shall go at once, as a request without content can ask."""
        return self.keep_alive is not None and _AT_ONCE.fullmatch(str(self.keep_alive)) is not None


class _Answered(_OfModel):
    stream: bool | None = None
    format: Literal["", "json"] | Json | None = None
    think: bool | str | None = None

    @property
    def streams(self) -> bool:
        """Unless it is said otherwise."""
        return self.stream is not False


class Function(_Asked):
    name: str
    arguments: Json | str = {}


class ToolCall(_Asked):
    id: str | None = None
    function: Function


class Message(_Asked):
    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class Chat(_Answered):
    messages: list[Message] | None = None
    tools: list[Json] | None = None


class Generate(_Answered):
    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    raw: bool | None = None
    images: list[str] | None = None


class Embed(_OfModel):
    input: str | list[str] | None = None
    dimensions: int | None = Field(None, ge=1)


class Embeddings(_OfModel):
    prompt: str | None = None


def chat_body(asked: Chat) -> Json:
    """For /v1/chat/completions."""
    body = _answered(asked) | {"messages": list(_messages(asked.messages or []))}
    return body | {"tools": asked.tools} if asked.tools else body


def generate_body(asked: Generate) -> Json:
    """For /v1/chat/completions: a prompt is somebody's turn, unless it is raw."""
    turns = [Message(role="system", content=asked.system)] if asked.system else []
    turns.append(Message(role="user", content=asked.prompt, images=asked.images))
    return _answered(asked) | {"messages": list(_messages(turns))}


def raw_body(asked: Generate) -> Json:
    """For /v1/completions: the prompt as it is."""
    body = {"model": asked.model, "stream": asked.streams, "prompt": asked.prompt, **_sampling(asked.options)}
    return body | {"json_schema": _schema(asked.format)} if asked.format else body


def infill_body(asked: Generate) -> Json:
    """For /infill: what comes between prompt and suffix."""
    sampling = _sampling(asked.options, "n_predict")
    ends = {"input_prefix": asked.prompt, "input_suffix": asked.suffix}
    return {"model": asked.model, "stream": asked.streams, **ends, **sampling}


def embedding_body(model: str, texts: str | list[str], dimensions: int | None = None) -> Json:
    """For /v1/embeddings."""
    body: Json = {"model": model, "input": texts, "encoding_format": "float"}
    return body | {"dimensions": dimensions} if dimensions else body


def _answered(asked: _Answered) -> Json:
    return {
        "model": asked.model,
        "stream": asked.streams,
        **_sampling(asked.options),
        **_format(asked.format),
        **_thinking(asked.think),
    }


def _sampling(options: Options | None, limit: str = "max_tokens") -> Json:
    """Those that were given. A negative limit is none."""
    if options is None:
        return {}
    given = {name: value for name in _SAME if (value := getattr(options, name)) is not None}
    most = options.num_predict
    return given | {limit: most} if most is not None and most >= 0 else given


def _format(format: str | Json | None) -> Json:
    if not format:
        return {}
    if format == "json":
        return {"response_format": {"type": "json_object"}}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": format}}}


def _schema(format: str | Json) -> Json:
    return {} if isinstance(format, str) else format


def _thinking(think: bool | str | None) -> Json:
    """Templates have a switch, those of some models a level."""
    if think is None:
        return {}
    level = think if isinstance(think, str) else None
    switch = {"enable_thinking": bool(think)} | ({"reasoning_effort": level} if level else {})
    return {"chat_template_kwargs": switch}


def _messages(messages: list[Message]) -> Iterator[Json]:
    """With ids of tool calls, which Ollama's clients may not have: a result belongs to the first call of its name that
    has none yet, or else to the first of all."""
    waiting: list[tuple[str, str]] = []
    count = 0
    for message in messages:
        calls = message.tool_calls or []
        spelled = [_call(call, f"call_{number}") for number, call in enumerate(calls, count)]
        count += len(calls)
        waiting += ((call["id"], call["function"]["name"]) for call in spelled)
        told: Json = {"role": message.role, "content": _content(message)}
        if spelled:
            told["tool_calls"] = spelled
        if message.thinking:
            told["reasoning_content"] = message.thinking
        if message.role == "tool":
            told["tool_call_id"] = message.tool_call_id or _answers(message.tool_name, waiting)
        yield told


def _answers(name: str | None, waiting: list[tuple[str, str]]) -> str:
    """Takes the call that a result is for out of those that wait."""
    found = next((call for call in waiting if call[1] == name), waiting[0] if waiting else ("call", ""))
    if found in waiting:
        waiting.remove(found)
    return found[0]


def _call(call: ToolCall, id: str) -> Json:
    arguments = call.function.arguments
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    return {"id": call.id or id, "type": "function", "function": {"name": call.function.name, "arguments": text}}


def _content(message: Message) -> str | list[Json]:
    text = message.content or ""
    if not message.images:
        return text
    pictures = [{"type": "image_url", "image_url": {"url": _picture(image)}} for image in message.images]
    return [{"type": "text", "text": text}, *pictures] if text else pictures


def _picture(image: str) -> str:
    """Its bytes only: a URL would have the engine fetch what it names."""
    data = _DATA.sub("", image, count=1) if image.startswith("data:") else image
    kind = next((kind for start, kind in _IMAGES.items() if data.startswith(start)), "jpeg")
    return f"data:image/{kind};base64,{data}"
