"""Models as Ollama's clients see them: every field has a value of its type, and nothing is started."""

import time
from pathlib import Path
from typing import Any

import pytest

from llamaproxy.backends.pool import Pool
from llamaproxy.backends.spawn import Spawn
from llamaproxy.config import Config
from llamaproxy.core.footprint import Footprint
from llamaproxy.core.states import BackendState
from llamaproxy.models.catalogue import build
from llamaproxy.models.headers import Headers
from llamaproxy.server.current import Current
from llamaproxy.server.ollama_models import OllamaModels
from tests.models.ggufs import write

CREATED = 1_700_000_000


def never(name: str, number: int) -> Spawn:
    raise AssertionError(f"{name} was started")


class World:
    """A catalogue and its pool; files in `known` have been read."""

    def __init__(self, models: dict[str, dict[str, Any]], *known: Path) -> None:
        config = Config.model_validate({"models": models})
        self.current = Current(config, build(config, None))
        self.pool = Pool(config.models, config, never)
        headers = Headers()
        headers.read_ahead(known)
        self.shown = OllamaModels(self.current, self.pool, headers, CREATED)

    def details(self, name: str) -> Any:
        return self.shown.details(self.current.catalogue.models[name])

    def ready(self, name: str, **about: Any) -> None:
        backend = self.pool.backends[name]
        backend.state = BackendState.READY
        for key, value in about.items():
            setattr(backend, key, value)

    def running(self) -> list[Any]:
        return self.shown.running(lambda model: True)


async def test_a_model_whose_file_was_read(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", context_length=8192, embedding_length=64, general__file_type=7)
    (shown,) = World({"m": {"path": str(path)}}, path).shown.listed(lambda model: True)
    assert len(shown.pop("digest")) == 64
    assert shown == {
        "name": "m",
        "model": "m",
        "modified_at": "2023-11-14T22:13:20.000000Z",
        "size": path.stat().st_size,
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "2.112K",
            "quantization_level": "Q8_0",
        },
    }


async def test_what_is_not_known_is_empty_and_of_its_type() -> None:
    world = World({"far": {"url": "http://far.test"}, "unread": {"path": "/nowhere.gguf"}})
    far, unread = world.shown.listed(lambda model: True)
    assert (far["size"], far["details"]["format"], far["details"]["families"]) == (0, "", [])
    assert (unread["size"], unread["details"]["format"], unread["details"]["family"]) == (0, "gguf", "")
    assert far["digest"] != unread["digest"]
    assert world.details("far")["model_info"] == {}


async def test_only_what_is_listed_and_may_be_used_is_shown() -> None:
    world = World({"a": {"path": "a"}, "hidden": {"path": "b", "unlisted": True}, "not-yours": {"path": "c"}})
    listed = world.shown.listed(lambda model: model.name != "not-yours")
    assert [model["name"] for model in listed] == ["a"]


async def test_details_tell_the_context_that_is_served(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", context_length=8192, embedding_length=64, block_count=2)
    world = World({"whole": {"path": str(path)}, "less": {"path": str(path), "ctx_size": 2048}}, path)
    assert world.details("whole")["model_info"] == {
        "general.architecture": "llama",
        "general.parameter_count": 2112,
        "llama.block_count": 2,
        "llama.context_length": 8192,
        "llama.embedding_length": 64,
    }
    assert world.details("less")["model_info"]["llama.context_length"] == 2048


async def test_capabilities(tmp_path: Path) -> None:
    talks = write(tmp_path / "talks.gguf", tokenizer__chat_template="{{ messages }}")
    plain = write(tmp_path / "plain.gguf")
    embeds = write(tmp_path / "embeds.gguf", pooling_type=1)
    models: dict[str, dict[str, Any]] = {
        "talks": {"path": str(talks)},
        "sees": {"path": str(talks), "mmproj": "p.gguf"},
        "plain": {"path": str(plain)},
        "embeds": {"path": str(embeds)},
        "told": {"path": str(talks), "args": ["--embeddings"]},
        "far": {"url": "http://far.test"},
    }
    world = World(models, talks, plain, embeds)
    assert {name: world.details(name)["capabilities"] for name in models} == {
        "talks": ["completion", "tools"],
        "sees": ["completion", "tools", "vision"],
        "plain": ["completion"],
        "embeds": ["embedding"],
        "told": ["embedding"],
        "far": ["completion", "tools"],
    }


@pytest.mark.parametrize("state", list(BackendState))
async def test_what_is_loaded_runs(state: BackendState) -> None:
    world = World({"m": {"path": "m"}})
    world.ready("m", state=state)
    assert bool(world.running()) is (state in (BackendState.READY, BackendState.DRAINING))


async def test_what_runs_takes_memory() -> None:
    world = World({"m": {"path": "m", "ctx_size": 512}, "not-yours": {"path": "n"}})
    world.ready("m", footprint=Footprint(100, (20, 3)))
    world.ready("not-yours")
    (shown,) = world.shown.running(lambda model: model.name == "m")
    assert (shown["size"], shown["size_vram"], shown["context_length"]) == (123, 23, 512)


async def test_when_it_will_go() -> None:
    world = World({"for-ever": {"path": "m"}, "pinned": {"path": "m", "ttl": 60, "pinned": True}})
    for name in ("for-ever", "pinned"):
        world.ready(name)
    assert {model["expires_at"] for model in world.running()} == {"2300-01-01T00:00:00Z"}


async def test_a_busy_one_has_all_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({"m": {"path": "m", "ttl": 60}})
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    world.ready("m", idle_since=990.0)
    assert world.running()[0]["expires_at"] == "1970-01-01T00:00:50.000000Z"
    world.ready("m", leases={"r": False})
    assert world.running()[0]["expires_at"] == "1970-01-01T00:01:00.000000Z"
