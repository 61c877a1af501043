"""The list of models, as OpenAI's clients and llama-server's router mode know it.

Reads the catalogue and the scheduler's records. Must not touch a backend: looking at a model never loads it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llamaproxy.backends.pool import Pool
from llamaproxy.core.backend import Backend
from llamaproxy.core.breaker import BreakerState
from llamaproxy.core.states import BackendState
from llamaproxy.models.catalogue import Catalogue, Model
from llamaproxy.models.headers import Headers

_STATUS = {
    BackendState.STOPPED: "unloaded",
    BackendState.STARTING: "loading",
    BackendState.READY: "loaded",
    BackendState.DRAINING: "loaded",
    BackendState.STOPPING: "unloaded",
}


def model_list(
    catalogue: Catalogue,
    pool: Pool,
    headers: Headers,
    now: float,
    created: int,
    may_use: Callable[[Model], bool] = lambda model: True,
) -> dict[str, Any]:
    """`data` of every listed model that the client may use; `created` in seconds since the epoch."""
    listed = (model for model in catalogue.models.values() if not model.config.unlisted and may_use(model))
    data = [describe(model, pool.backends[model.name], headers, now, created) for model in listed]
    return {"object": "list", "data": data}


def describe(model: Model, backend: Backend, headers: Headers, now: float, created: int) -> dict[str, Any]:
    """One model; Open WebUI takes a model without `status.value` for a loaded one.

    What its file says stands under the names that llama-server has for it.
    """
    info = headers.peek(Path(model.config.path)) if model.config.path else None
    return {
        "id": model.name,
        "object": "model",
        "created": created,
        "owned_by": "llamaproxy",
        "aliases": list(model.config.aliases),
        "status": {"value": _status(backend, now)},
        "meta": {
            "description": model.config.description,
            "n_ctx": model.config.ctx_size,
            "n_ctx_train": info.context_length if info else None,
            "n_embd": info.embedding_length if info else None,
            "n_params": info.parameters if info else None,
            "n_vocab": info.vocabulary if info else None,
            "size": info.file_size if info else None,
            "architecture": info.architecture if info else None,
            "quantization": info.quantisation if info else None,
        },
    }


def _status(backend: Backend, now: float) -> str:
    if backend.state is BackendState.STOPPED and backend.breaker.state(now) is not BreakerState.CLOSED:
        return "failed"
    return _STATUS[backend.state]
