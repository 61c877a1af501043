"""What llama-server says: prompts out of request bodies, answers in the shape of each API, unary and as events.

Owns the JSON. Pure functions of an `Answer`; must not do I/O. Shapes compared with llama.cpp b11434.
"""

import json
import time
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import uuid4

Json = dict[str, Any]
_FINGERPRINT = "b0-fake"


class Refused(Exception):
    """Ends a request with an error in the engine's shape."""

    def __init__(self, status: int, kind: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"error": {"message": message, "type": kind, "code": status, **more}}


@dataclass
class Answer:
    """One generation, as far as it has come. Times are in seconds."""

    model: str
    request: Json
    prompt: int
    cached: int
    limit: int
    slot: int = 0
    words: list[str] = field(default_factory=list)
    prompt_seconds: float = 0.0
    seconds: float = 0.0
    created: int = field(default_factory=lambda: int(time.time()))
    key: str = field(default_factory=lambda: uuid4().hex)

    @property
    def text(self) -> str:
        return "".join(self.words)

    @property
    def truncated(self) -> bool:
        """Whether the client's own limit ended it."""
        return wanted_tokens(self.request) is not None

    @property
    def timings(self) -> Json:
        prompt, predicted = self.prompt - self.cached, len(self.words)
        return {
            "cache_n": self.cached,
            **_speed("prompt", prompt, self.prompt_seconds, prompt),
            **_speed("predicted", predicted, self.seconds, predicted - 1),
        }

    @property
    def usage(self) -> Json:
        return {
            "completion_tokens": len(self.words),
            "prompt_tokens": self.prompt,
            "total_tokens": self.prompt + len(self.words),
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }

    @property
    def per_token(self) -> Json:
        return {"timings": self.timings} if self.request.get("timings_per_token") else {}


def _speed(name: str, number: int, seconds: float, steps: int) -> Json:
    # The first token is the prompt's work, so llama-server divides by one less for the predicted ones.
    per_token, per_second = (seconds * 1e3 / steps, steps / seconds) if steps > 0 and seconds > 0 else (0.0, 0.0)
    ms = round(seconds * 1e3, 3)
    return {
        f"{name}_n": number,
        f"{name}_ms": ms,
        f"{name}_per_token_ms": per_token,
        f"{name}_per_second": per_second,
    }


def wanted_tokens(body: Json) -> int | None:
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens", "n_predict"):
        if isinstance(number := body.get(name), int) and number >= 0:
            return max(number, 1)  # llama-server predicts one token even when asked for none
    return None


def _words(content: object) -> list[str]:
    if isinstance(content, list):
        return [word for part in content for word in _words(part.get("text") if isinstance(part, dict) else part)]
    return str(content or "").split()


def _template(system: object, messages: list[Any]) -> list[str]:
    turns = [("system", _words(system))] if system else []
    turns += [(str(turn.get("role")), _words(turn.get("content"))) for turn in messages if isinstance(turn, dict)]
    marked = [word for role, words in turns for word in (f"<|im_start|>{role}", *words, "<|im_end|>")]
    return [*marked, "<|im_start|>assistant"]


def _data(*payloads: Json) -> bytes:
    return b"".join(f"data: {compact(payload)}\n\n".encode() for payload in payloads)


def _events(*payloads: Json) -> bytes:
    return b"".join(f"event: {one['type']}\ndata: {compact(one)}\n\n".encode() for one in payloads)


def compact(payload: object) -> str:
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False)


class Dialect(Protocol):
    """One API. `token` gives the events for the newest word; the stream is opening, tokens, closing."""

    def prompt(self, body: Json) -> list[str]: ...
    def unary(self, answer: Answer) -> Json: ...
    def opening(self, answer: Answer) -> bytes: ...
    def token(self, answer: Answer) -> bytes: ...
    def closing(self, answer: Answer) -> bytes: ...


class Chat:
    def prompt(self, body: Json) -> list[str]:
        if "messages" not in body:
            raise Refused(400, "invalid_request_error", "'messages' is required")
        if not isinstance(body["messages"], list):
            raise Refused(400, "invalid_request_error", "Expected 'messages' to be an array")
        return _template(body.get("system"), body["messages"])

    def unary(self, answer: Answer) -> Json:
        message = {"role": "assistant", "content": answer.text}
        return {
            "choices": [{"finish_reason": self._reason(answer), "index": 0, "message": message}],
            **self._about(answer, "chat.completion"),
            "usage": answer.usage,
            "timings": answer.timings,
        }

    def opening(self, answer: Answer) -> bytes:
        start: Json = {"role": "assistant", "content": None}
        chunks = [self._chunk(answer, start)]
        if answer.request.get("return_progress"):
            chunks.insert(0, self._chunk(answer, start, **self._progress(answer)))
        return _data(*chunks)

    def token(self, answer: Answer) -> bytes:
        return _data(self._chunk(answer, {"content": answer.words[-1]}, **answer.per_token))

    def closing(self, answer: Answer) -> bytes:
        last = self._chunk(answer, {}, self._reason(answer))
        if (answer.request.get("stream_options") or {}).get("include_usage"):
            usage = {"choices": [], **self._about(answer), "usage": answer.usage, "timings": answer.timings}
            chunks = _data(last, usage)
        else:
            chunks = _data({**last, "timings": answer.timings})
        return chunks + b"data: [DONE]\n\n"

    def _chunk(self, answer: Answer, delta: Json, reason: str | None = None, **more: Any) -> Json:
        return {
            "choices": [{"finish_reason": reason, "index": 0, "delta": delta}],
            **self._about(answer),
            **more,
        }

    def _about(self, answer: Answer, kind: str = "chat.completion.chunk") -> Json:
        return {
            "created": answer.created,
            "id": f"chatcmpl-{answer.key}",
            "model": answer.model,
            "system_fingerprint": _FINGERPRINT,
            "object": kind,
        }

    def _progress(self, answer: Answer) -> Json:
        spent = int(answer.prompt_seconds * 1e3)
        counts = {"total": answer.prompt, "cache": answer.cached, "processed": answer.prompt, "time_ms": spent}
        return {"prompt_progress": counts}

    def _reason(self, answer: Answer) -> str:
        return "length" if answer.truncated else "stop"


class Text:
    """/v1/completions"""

    def prompt(self, body: Json) -> list[str]:
        if "prompt" not in body:
            raise Refused(400, "invalid_request_error", "[json.exception.out_of_range.403] key 'prompt' not found")
        return _words(body["prompt"])

    def unary(self, answer: Answer) -> Json:
        return self._chunk(answer, answer.text, last=True)

    def opening(self, answer: Answer) -> bytes:
        return b""

    def token(self, answer: Answer) -> bytes:
        return _data({**self._chunk(answer, answer.words[-1]), **answer.per_token})

    def closing(self, answer: Answer) -> bytes:
        return _data(self._chunk(answer, "", last=True)) + b"data: [DONE]\n\n"

    def _chunk(self, answer: Answer, text: str, last: bool = False) -> Json:
        reason = ("length" if answer.truncated else "stop") if last else None
        return {
            "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": reason}],
            "created": answer.created,
            "model": answer.model,
            "system_fingerprint": _FINGERPRINT,
            "object": "text_completion",
            **({"usage": answer.usage} if last else {}),
            "id": f"chatcmpl-{answer.key}",
            **({"timings": answer.timings} if last else {}),
        }


class Native(Text):
    """/completion and /completions: llama.cpp's own, without [DONE]."""

    def unary(self, answer: Answer) -> Json:
        return self._last(answer, answer.text)

    def token(self, answer: Answer) -> bytes:
        counts = {"tokens_predicted": len(answer.words), "tokens_evaluated": answer.prompt}
        chunk = {"index": 0, "content": answer.words[-1], "tokens": [len(answer.words)], "stop": False, "id_slot": -1}
        return _data({**chunk, **counts, **answer.per_token})

    def closing(self, answer: Answer) -> bytes:
        return _data(self._last(answer, ""))

    def _last(self, answer: Answer, content: str) -> Json:
        return {
            "index": 0,
            "content": content,
            "tokens": [],
            "id_slot": answer.slot,
            "stop": True,
            "model": answer.model,
            "tokens_predicted": len(answer.words),
            "tokens_evaluated": answer.prompt,
            "generation_settings": {"n_predict": answer.limit, "stream": bool(answer.request.get("stream"))},
            "prompt": " ".join(_words(answer.request.get("prompt"))),
            "has_new_line": False,
            "truncated": False,
            "stop_type": "limit" if answer.truncated else "eos",
            "stopping_word": "",
            "tokens_cached": answer.prompt + len(answer.words) - 1,
            "timings": answer.timings,
        }


class Messages(Chat):
    """Anthropic's: tokens that were cached do not count as input tokens, and there are no timings."""

    def prompt(self, body: Json) -> list[str]:
        if "messages" not in body:  # the client's fault, and yet a 500
            raise Refused(500, "server_error", "'messages' is required")
        return super().prompt(body)

    def unary(self, answer: Answer) -> Json:
        content = [{"type": "text", "text": answer.text}]
        return self._message(answer, content, self._reason(answer), len(answer.words))

    def opening(self, answer: Answer) -> bytes:
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        return _events({"type": "message_start", "message": self._message(answer, [], None, 0)}, block)

    def token(self, answer: Answer) -> bytes:
        delta = {"type": "text_delta", "text": answer.words[-1]}
        return _events({"type": "content_block_delta", "index": 0, "delta": delta})

    def closing(self, answer: Answer) -> bytes:
        end = {"stop_reason": self._reason(answer), "stop_sequence": None}
        usage = {"output_tokens": len(answer.words)}
        return _events(
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": end, "usage": usage},
            {"type": "message_stop"},
        )

    def _message(self, answer: Answer, content: list[Json], reason: str | None, output: int) -> Json:
        counted = answer.prompt - answer.cached
        return {
            "id": f"chatcmpl-{answer.key}",
            "type": "message",
            "role": "assistant",
            "content": content,
            "model": answer.model,
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": {"cache_read_input_tokens": answer.cached, "input_tokens": counted, "output_tokens": output},
        }

    def _reason(self, answer: Answer) -> str:
        return "max_tokens" if answer.truncated else "end_turn"


class Responses:
    def prompt(self, body: Json) -> list[str]:
        if "input" not in body:
            raise Refused(400, "invalid_request_error", "'input' is required")
        given = body["input"]
        turns = given if isinstance(given, list) else [{"role": "user", "content": given}]
        return _template(body.get("instructions"), turns)

    def unary(self, answer: Answer) -> Json:
        return {"completed_at": answer.created, **self._response(answer)}

    def opening(self, answer: Answer) -> bytes:
        start = {"id": f"resp_{answer.key}", "object": "response", "status": "in_progress"}
        item = {**self._item(answer, "in_progress"), "content": []}
        return _events(
            {"type": "response.created", "response": start},
            {"type": "response.in_progress", "response": start},
            {"type": "response.output_item.added", "item": item},
            self._part(answer, "content_part.added", part={"type": "output_text", "text": ""}),
        )

    def token(self, answer: Answer) -> bytes:
        return _events(self._part(answer, "output_text.delta", delta=answer.words[-1]))

    def closing(self, answer: Answer) -> bytes:
        item = self._item(answer)
        return _events(
            self._part(answer, "output_text.done", text=answer.text),
            self._part(answer, "content_part.done", part=item["content"][0]),
            {"type": "response.output_item.done", "item": item},
            {"type": "response.completed", "response": self._response(answer), "timings": answer.timings},
        )

    def _part(self, answer: Answer, kind: str, **more: Any) -> Json:
        return {"type": f"response.{kind}", "item_id": f"msg_{answer.key}", **more}

    def _item(self, answer: Answer, status: str = "completed") -> Json:
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": answer.text}
        base = {"type": "message", "status": status, "id": f"msg_{answer.key}"}
        return {**base, "content": [part], "role": "assistant"}

    def _response(self, answer: Answer) -> Json:
        usage = answer.usage
        return {
            "id": f"resp_{answer.key}",
            "object": "response",
            "created_at": answer.created,
            "status": "completed",
            "model": answer.model,
            "output": [self._item(answer)],
            "usage": {
                "input_tokens": usage["prompt_tokens"],
                "output_tokens": usage["completion_tokens"],
                "total_tokens": usage["total_tokens"],
                "input_tokens_details": usage["prompt_tokens_details"],
            },
        }
