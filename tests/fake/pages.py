"""Everything the fake llama-server answers at once: models, properties, slots, metrics, counting, embeddings.

Owns the routes that need no slot. Must not wait for anything.
"""

import hashlib
import json
import time
from collections.abc import Callable

from tests.fake import answers
from tests.fake.answers import Answer, Dialect, Json, Refused
from tests.fake.flags import Flags
from tests.fake.slots import Slot, Slots, tokens
from tests.fake.wire import Request

_COUNTING: dict[str, Dialect] = {
    "/v1/messages/count_tokens": answers.Messages(),
    "/v1/chat/completions/input_tokens": answers.Chat(),
    "/v1/responses/input_tokens": answers.Responses(),
}
_EMBEDDINGS = ("/v1/embeddings", "/embeddings", "/embedding")
_RERANK = ("/v1/rerank", "/rerank", "/v1/reranking", "/reranking")
_SPECULATIVE = tuple(f"spec_decode_num_{what}_total" for what in ("draft_tokens", "accepted_tokens", "drafts"))
_META = {
    "vocab_type": 2,
    "n_vocab": 49152,
    "n_ctx_train": 8192,
    "n_embd": 4,
    "n_params": 1000,
    "size": 4000,
    "ftype": "Q4_1",
}
_OLLAMA: Json = {
    **dict.fromkeys(("modified_at", "size", "digest", "description", "parameters"), ""),
    "type": "model",
    "tags": [""],
    "capabilities": ["completion"],
    "details": {
        **dict.fromkeys(("parent_model", "family", "parameter_size", "quantization_level"), ""),
        "format": "gguf",
        "families": [""],
    },
}


class Pages:
    def __init__(self, flags: Flags, slots: Slots) -> None:
        self._flags, self._slots = flags, slots
        self.counts = Counts()
        self._pages: dict[str, Callable[[], object]] = {
            "/health": lambda: {"status": "ok"},
            "/v1/health": lambda: {"status": "ok"},
            "/models": self._models,
            "/v1/models": self._models,
            "/props": self._props,
            "/slots": self._slots_page,
            "/lora-adapters": list,
        }

    def page(self, request: Request) -> object:
        if request.path == "/fake/body":
            return {"length": len(request.body), "sha256": hashlib.sha256(request.body).hexdigest()}
        if request.method in ("GET", "HEAD") and request.path in self._pages:
            return self._pages[request.path]()
        if request.method == "POST":
            return self._posted(request.path, request)
        raise _not_found()

    def _posted(self, path: str, request: Request) -> object:
        if path in _RERANK:
            need(False, "reranking", "--reranking")
        if path == "/infill":
            raise Refused(501, "not_supported_error", "Infill is not supported by this model: prefix token is missing.")
        if path in _EMBEDDINGS:
            need(self._flags.embeddings, "embeddings", "--embeddings")
            return self._embeddings(json_body(request), path)
        if path in _COUNTING:
            kind = {} if "messages" in path else {"object": "response.input_tokens"}
            return {"input_tokens": len(_COUNTING[path].prompt(json_body(request))), **kind}
        if path == "/tokenize":
            return {"tokens": tokens(str(json_body(request).get("content", "")).split())}
        raise _not_found()

    def _models(self) -> Json:
        name, context = self._flags.served_as, self._flags.slot_context
        entry: Json = {"id": name, "aliases": self._flags.aliases or [name], "tags": [], "object": "model"}
        entry["architecture"] = {"input_modalities": ["text"], "output_modalities": ["text"]}
        entry |= {"created": int(time.time()), "owned_by": "llamacpp", "meta": {**_META, "n_ctx": context}}
        return {"models": [{"name": name, "model": name, **_OLLAMA}], "object": "list", "data": [entry]}

    def _props(self) -> Json:
        return {
            "default_generation_settings": {"params": {"n_predict": -1}, "n_ctx": self._flags.slot_context},
            "total_slots": len(self._slots.all),
            "model_alias": self._flags.served_as,
            "model_ftype": "Q4_1",
            "model_path": self._flags.model,
            "modalities": {"vision": False, "video": False, "audio": False},
            "endpoint_slots": self._flags.slots,
            "endpoint_props": False,
            "endpoint_metrics": self._flags.metrics,
            "media_marker": "<__media__>",
            "ui": True,
            "ui_settings": {},
            "cors_proxy_enabled": False,
            "chat_template": "",
            "chat_template_caps": {},
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "build_info": "b0-fake",
            "is_sleeping": False,
        }

    def _slots_page(self) -> list[Json]:
        need(self._flags.slots, "slots endpoint", "--slots")
        return [self._slot_entry(slot) for slot in self._slots.all]

    def _slot_entry(self, slot: Slot) -> Json:
        entry: Json = {
            "id": slot.id,
            "n_ctx": self._flags.slot_context,
            "speculative": False,
            "is_processing": slot.busy,
        }
        if slot.task < 0:
            return entry
        progress = {"has_next_token": slot.busy, "has_new_line": False, "n_remain": slot.remaining}
        return entry | {
            "id_task": slot.task,
            "n_prompt_tokens": slot.prompt + slot.decoded,
            "n_prompt_tokens_processed": slot.prompt - slot.cached if slot.busy else 0,
            "n_prompt_tokens_cache": slot.cached if slot.busy else 0,
            "next_token": [progress | {"n_decoded": slot.decoded}],
        }

    def metrics(self) -> bytes:
        need(self._flags.metrics, "metrics endpoint", "--metrics")
        return self.counts.page(self._slots.processing, self._slots.deferred)

    def _embeddings(self, body: Json, path: str) -> object:
        given = body.get("input", body.get("content", ""))
        vectors = [[1.0, len(str(text)) / 1e3, 0.0, 0.0] for text in (given if isinstance(given, list) else [given])]
        if path == "/embedding":
            return [{"index": at, "embedding": [vector]} for at, vector in enumerate(vectors)]
        data = [{"embedding": vector, "index": at, "object": "embedding"} for at, vector in enumerate(vectors)]
        used = len(str(given).split())
        usage = {"prompt_tokens": used, "total_tokens": used}
        return {"model": self._flags.served_as, "object": "list", "usage": usage, "data": data}


class Counts:
    """What /metrics tells."""

    def __init__(self) -> None:
        self._prompt = self._cached = self._predicted = self._decodes = self._longest = 0
        self._prompt_seconds = self._predicted_seconds = 0.0
        self._scraped: tuple[int, float, int, float] = (0, 0.0, 0, 0.0)

    def add(self, answer: Answer) -> None:
        self._prompt += answer.prompt - answer.cached
        self._cached += answer.cached
        self._prompt_seconds += answer.prompt_seconds
        self._predicted += len(answer.words)
        self._predicted_seconds += answer.seconds
        self._decodes += len(answer.words)
        self._longest = max(self._longest, answer.prompt + len(answer.words))

    def page(self, processing: int, deferred: int) -> bytes:
        prompt_rate, predicted_rate = self._rates_since_last_scrape()
        counters = {
            "prompt_tokens_total": self._prompt,
            "prompt_tokens_cached_total": self._cached,
            "prompt_seconds_total": self._prompt_seconds,
            "tokens_predicted_total": self._predicted,
            "tokens_predicted_seconds_total": self._predicted_seconds,
            "n_decode_total": self._decodes,
            "n_tokens_max": self._longest,
            **dict.fromkeys(_SPECULATIVE, 0),
        }
        gauges = {
            "prompt_tokens_seconds": prompt_rate,
            "predicted_tokens_seconds": predicted_rate,
            "requests_processing": processing,
            "requests_deferred": deferred,
            "n_busy_slots_per_decode": 1,
        }
        return (_series("counter", counters) + _series("gauge", gauges)).encode()

    def _rates_since_last_scrape(self) -> tuple[float, float]:
        old = self._scraped
        self._scraped = (self._prompt, self._prompt_seconds, self._predicted, self._predicted_seconds)
        prompt, prompt_s, predicted, predicted_s = (new - past for new, past in zip(self._scraped, old, strict=True))
        return prompt / prompt_s if prompt_s else 0.0, predicted / predicted_s if predicted_s else 0.0


def _series(kind: str, values: dict[str, float]) -> str:
    text = ""
    for name, value in values.items():
        full = f"llamacpp:{name}"
        text += f"# HELP {full} {name.replace('_', ' ')}\n# TYPE {full} {kind}\n{full} {value:.6g}\n"
    return text


def json_body(request: Request) -> Json:
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        message = f"[json.exception.parse_error.101] parse error: {error}"
        raise Refused(400, "invalid_request_error", message) from error
    if not isinstance(body, dict):
        raise Refused(400, "invalid_request_error", "Expected an object")
    return body


def need(given: object, feature: str, flag: str) -> None:
    if not given:
        message = f"This server does not support {feature}. Start it with `{flag}`"
        raise Refused(501, "not_supported_error", message)


def _not_found() -> Refused:
    return Refused(404, "not_found_error", "File Not Found")
