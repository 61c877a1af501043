"""Models as clients of Ollama know them: listed, running, and one in detail.

Reads the catalogue, the headers of files that were read already, and the scheduler's records. Looking starts nothing.
Every field has a value of its type, because some clients refuse null: what is not known is empty, or 0.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from llamaproxy.backends.pool import Pool
from llamaproxy.core.backend import Backend
from llamaproxy.core.ollama import Json
from llamaproxy.core.ollama_answer import moment
from llamaproxy.core.states import BackendState
from llamaproxy.models.catalogue import Model
from llamaproxy.models.gguf import GgufInfo
from llamaproxy.models.headers import Headers
from llamaproxy.server.current import Current

_NEVER = "2300-01-01T00:00:00Z"
"""When a model expires that nothing ends but want of room."""
_EMBEDDING = ("--embedding", "--embeddings")
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))

MayUse = Callable[[Model], bool]


class OllamaModels:
    """`created` is when the gateway began, in seconds since the epoch: no model is known to have changed since."""

    def __init__(self, current: Current, pool: Pool, headers: Headers, created: float) -> None:
        self._current = current
        self._pool = pool
        self._headers = headers
        self._created = created

    def listed(self, may_use: MayUse) -> list[Json]:
        models = self._current.catalogue.models.values()
        return [self._described(model) for model in models if not model.config.unlisted and may_use(model)]

    def running(self, may_use: MayUse) -> list[Json]:
        """Those that are loaded; what takes its last requests is."""
        models = self._current.catalogue.models.values()
        loaded = ((model, self._pool.backends[model.name]) for model in models if may_use(model))
        states = (BackendState.READY, BackendState.DRAINING)
        return [self._running(model, backend) for model, backend in loaded if backend.state in states]

    def details(self, model: Model) -> Json:
        info = self._info(model)
        return {
            "license": "",
            "modelfile": "",
            "parameters": "",
            "template": "",
            "details": _details(model, info),
            "model_info": _facts(model, info),
            "capabilities": capabilities(model, info),
            "modified_at": moment(self._created),
        }

    def _described(self, model: Model) -> Json:
        info = self._info(model)
        return {
            **_name(model),
            "modified_at": moment(self._created),
            "size": info.file_size if info else 0,
            "digest": _digest(model, info),
            "details": _details(model, info),
        }

    def _running(self, model: Model, backend: Backend) -> Json:
        info, takes = self._info(model), backend.takes
        devices = sum(takes.devices)
        return {
            **_name(model),
            "size": takes.ram + devices or (info.file_size if info else 0),
            "digest": _digest(model, info),
            "details": _details(model, info),
            "expires_at": _expiry(model, backend),
            "size_vram": devices,
            "context_length": _context(model, info),
        }

    def _info(self, model: Model) -> GgufInfo | None:
        return self._headers.peek(Path(model.config.path)) if model.config.path else None


def capabilities(model: Model, info: GgufInfo | None) -> list[str]:
    """What can be known before it is loaded. Any template of a chat takes tools: llama-server adds what it lacks."""
    if (info and info.embedding) or any(word in _EMBEDDING for word in model.config.args):
        return ["embedding"]
    tools = ["tools"] if info is None or info.chat_template else []
    return ["completion", *tools, *(["vision"] if model.config.mmproj else [])]


def _name(model: Model) -> Json:
    return {"name": model.name, "model": model.name}


def _details(model: Model, info: GgufInfo | None) -> Json:
    family = info.architecture if info else ""
    return {
        "parent_model": "",
        "format": "gguf" if model.config.path else "",
        "family": family,
        "families": [family] if family else [],
        "parameter_size": _count(info.parameters) if info else "",
        "quantization_level": (info.quantisation or "") if info else "",
    }


def _facts(model: Model, info: GgufInfo | None) -> Json:
    if info is None:
        return {}
    own = {
        "block_count": info.layers,
        "context_length": _context(model, info) or None,
        "embedding_length": info.embedding_length,
        "vocab_size": info.vocabulary,
    }
    known = {f"{info.architecture}.{key}": value for key, value in own.items() if value is not None}
    return {"general.architecture": info.architecture, "general.parameter_count": info.parameters, **known}


def _context(model: Model, info: GgufInfo | None) -> int:
    """What is served, which may be less than the model was made for."""
    return model.config.ctx_size or (info.context_length if info else None) or 0


def _digest(model: Model, info: GgufInfo | None) -> str:
    """Tells models apart, as clients use it; no file is read for it."""
    named = f"{model.name}\n{model.config.path or model.config.url}\n{info.file_size if info else 0}"
    return hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()


def _expiry(model: Model, backend: Backend) -> str:
    """One that is busy has all of its time before it."""
    if model.config.ttl is None or model.config.pinned:
        return _NEVER
    spent = 0.0 if backend.leases or backend.queue else time.monotonic() - backend.idle_since
    return moment(time.time() + max(0.0, model.config.ttl - spent))


def _count(parameters: int) -> str:
    for size, unit in _UNITS:
        if parameters >= size:
            return f"{parameters / size:.4g}{unit}"
    return str(parameters)
