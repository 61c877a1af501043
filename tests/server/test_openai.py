"""llamaproxy.server.openai: the list of models as clients read it, and nothing wakes up for it."""

import time
from pathlib import Path

import pytest

from llamaproxy.backends.pool import Pool
from llamaproxy.backends.spawn import Spawn
from llamaproxy.config import BreakerConfig, Config
from llamaproxy.core.backend import Backend
from llamaproxy.core.breaker import Breaker
from llamaproxy.core.states import BackendState
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.models.catalogue import Catalogue, Model
from llamaproxy.models.headers import Headers
from llamaproxy.server.openai import describe, model_list
from tests.models.ggufs import write

NOW = 100.0
CREATED = 1_700_000_000
FROM_THE_FILE = {"n_ctx_train", "n_embd", "n_params", "n_vocab", "size", "architecture", "quantization"}


def backend(state: BackendState = BackendState.STOPPED) -> Backend:
    return Backend("qwen", ModelConfig(path="q.gguf"), Breaker(BreakerConfig()), state=state)


def never(name: str, number: int) -> Spawn:
    raise AssertionError(f"{name} was started")


def shown(state: BackendState, *, failures: int = 0, now: float = NOW) -> object:
    """`status.value` of a model whose start has failed so often."""
    record = backend(state)
    for _ in range(failures):
        record.breaker.start_failed(NOW, "it would not")
    return describe(Model("qwen", record.config, "configured"), record, Headers(), now, CREATED)["status"]["value"]


@pytest.mark.parametrize(
    ("state", "value"),
    [
        (BackendState.STOPPED, "unloaded"),
        (BackendState.STARTING, "loading"),
        (BackendState.READY, "loaded"),
        (BackendState.DRAINING, "loaded"),
        (BackendState.STOPPING, "unloaded"),
    ],
)
def test_every_state_has_a_status(state: BackendState, value: str) -> None:
    assert shown(state) == value


def test_a_model_that_will_not_start_has_failed() -> None:
    assert shown(BackendState.STOPPED, failures=2) == "unloaded"
    assert shown(BackendState.STOPPED, failures=3) == "failed"
    assert shown(BackendState.STOPPED, failures=3, now=NOW + 60) == "failed"
    assert shown(BackendState.STARTING, failures=3, now=NOW + 60) == "loading"


def test_one_model() -> None:
    settings = ModelConfig(path="/secret/place/q.gguf", aliases=("gpt-4o",), ctx_size=4096, description="small")
    assert describe(Model("qwen", settings, "configured"), backend(), Headers(), NOW, CREATED) == {
        "id": "qwen",
        "object": "model",
        "created": CREATED,
        "owned_by": "llamaproxy",
        "aliases": ["gpt-4o"],
        "status": {"value": "unloaded"},
        "meta": {"description": "small", "n_ctx": 4096, **dict.fromkeys(FROM_THE_FILE)},
    }


def test_what_the_file_says_once_it_was_read(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", context_length=8192, embedding_length=64)
    headers = Headers()
    headers.get(path)
    model = Model("m", ModelConfig(path=str(path)), "configured")
    meta = describe(model, backend(), headers, NOW, CREATED)["meta"]
    assert (meta["n_ctx_train"], meta["n_embd"], meta["architecture"]) == (8192, 64, "llama")
    assert meta["size"] == path.stat().st_size
    assert set(meta) - {"description", "n_ctx"} == FROM_THE_FILE


def test_server_elsewhere_has_no_file() -> None:
    model = Model("far", ModelConfig(url="http://far.test"), "configured")
    assert describe(model, backend(), Headers(), NOW, CREATED)["meta"]["size"] is None


async def test_the_list_has_every_listed_model_in_order_and_starts_none() -> None:
    config = Config.model_validate(
        {"models": {"b": {"path": "b"}, "hidden": {"path": "h", "unlisted": True}, "a": {"path": "a"}}}
    )
    pool = Pool(config.models, config, never)
    catalogue = Catalogue(Model(name, model, "configured") for name, model in config.models.items())
    listed = model_list(catalogue, pool, Headers(), time.monotonic(), CREATED)
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["b", "a"]
    assert {model["status"]["value"] for model in listed["data"]} == {"unloaded"}


async def test_no_models_is_an_empty_list() -> None:
    assert model_list(Catalogue([]), Pool({}, Config(), never), Headers(), NOW, CREATED) == {
        "object": "list",
        "data": [],
    }
