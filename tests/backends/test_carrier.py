"""llamaproxy.backends.carrier: which models carry, why not, and what makes a saved slot fit."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from llamaproxy.backends.carrier import Carrier
from llamaproxy.backends.engine import Engine
from llamaproxy.backends.slots import Carry
from llamaproxy.config import EngineConfig, KvConfig
from llamaproxy.modelconfig import ModelConfig
from tests.gateway import until


class World:
    """A model's files and an engine, on a disk of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("m.gguf", "p.gguf", "llama-server"):
            (folder / name).write_text(name)
        self.engine = Engine("llama-server", (str(folder / "llama-server"),))

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def model(self, **settings: Any) -> ModelConfig:
        return ModelConfig(path=self.path("m.gguf"), **settings)

    def carrier(self, engine: EngineConfig | None = None, **settings: Any) -> Carrier:
        return Carrier(KvConfig(directory=self.path("kv"), **settings), engine or EngineConfig())

    def key(self, name: str = "m", engine: EngineConfig | None = None, **settings: Any) -> str:
        """That of a new gateway, which remembers nothing."""
        return carried(self.carrier(engine), self, name, **settings).key


def carried(carrier: Carrier, world: World, name: str = "m", **settings: Any) -> Carry:
    carry = carrier.prepare(name, world.model(**settings), world.engine)
    assert carry
    return carry


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def touch(path: str) -> None:
    os.utime(path, ns=(1, 1))


class TestKey:
    def test_the_same_model_finds_what_it_left(self, world: World) -> None:
        assert world.key() == world.key()

    @pytest.mark.parametrize(
        "settings",
        [
            {"ctx_size": 4096},
            {"parallel": 2},
            {"gpu_layers": 3},
            {"args": ("-ctk", "q8_0")},
            {"env": {"GGML_X": "1"}},
        ],
        ids=str,
    )
    def test_what_changes_the_cache_changes_the_key(self, world: World, settings: dict[str, Any]) -> None:
        assert world.key(**settings) != world.key()

    def test_so_do_the_arguments_of_all_models(self, world: World) -> None:
        assert world.key(engine=EngineConfig(args=("-fa", "on"))) != world.key()

    @pytest.mark.parametrize(
        "settings", [{"threads": 2}, {"ttl": 60}, {"pinned": True}, {"aliases": ("gpt-4o",)}], ids=str
    )
    def test_what_does_not_leaves_it(self, world: World, settings: dict[str, Any]) -> None:
        assert world.key(**settings) == world.key()

    @pytest.mark.parametrize("changed", ["m.gguf", "p.gguf", "llama-server"])
    def test_another_version_of_a_file_is_another_key(self, world: World, changed: str) -> None:
        mmproj = world.path("p.gguf")
        before = world.key(mmproj=mmproj)
        touch(world.path(changed))
        assert world.key(mmproj=mmproj) != before

    def test_the_embedded_engine_is_known_by_its_version(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.engine = Engine("embedded", ("python", "-m", "engine"))
        versions = iter(("1", "1", "2"))
        monkeypatch.setattr("importlib.metadata.version", lambda _: next(versions))
        first, second, third = world.key(), world.key(), world.key()
        assert first == second != third

    def test_two_models_of_one_file_do_not_share(self, world: World) -> None:
        assert world.key("a") != world.key("b")

    def test_it_shows_neither_name_nor_variables(self, world: World) -> None:
        key = world.key("org/secret", env={"TOKEN": "secret"})
        assert set(key) <= set("0123456789abcdef-")


class TestCarrying:
    def test_what_is_remembered_outlives_a_process(self, world: World) -> None:
        carrier = world.carrier()
        assert carried(carrier, world) is carried(carrier, world)

    def test_but_not_a_change_of_the_model(self, world: World) -> None:
        carrier = world.carrier()
        assert carried(carrier, world) is not carried(carrier, world, ctx_size=512)

    def test_a_model_that_gained_nothing_is_left_alone_until_it_changes(self, world: World) -> None:
        carry = carried(world.carrier(), world)
        (carry.directory / "off").write_text("nothing was reused")
        carrier = world.carrier()
        assert carrier.prepare("m", world.model(), world.engine) is None
        assert carrier.describe("m", world.model())["reason"] == "nothing was reused"
        assert carrier.prepare("m", world.model(ctx_size=512), world.engine)

    def test_a_model_that_is_removed_leaves_nothing(self, world: World) -> None:
        carrier = world.carrier()
        gone, kept = carried(carrier, world, "gone"), carried(carrier, world, "kept")
        carrier.forget("gone")
        assert (gone.directory.exists(), kept.directory.exists()) == (False, True)
        assert carried(carrier, world, "gone") is not gone

    def test_without_a_directory_it_is_the_users_own(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        Carrier(KvConfig(), EngineConfig())
        assert (platformdirs.user_cache_path("llamaproxy") / "kv").is_dir()


class TestNotCarrying:
    @pytest.mark.parametrize(
        ("settings", "reason"),
        [
            ({"kv_carry": False}, "switched off in the configuration"),
            ({"args": ("--embeddings",)}, "an engine for embeddings keeps no conversation"),
            ({"args": ("--no_cache_prompt",)}, "the engine is told to reuse nothing"),
            ({"args": ("--slot-save-path", "/mine")}, "a directory of their own"),
            ({"args": ("--sleep-idle-seconds", "60")}, "would be woken"),
        ],
        ids=str,
    )
    def test_there_is_a_reason(self, world: World, settings: dict[str, Any], reason: str) -> None:
        carrier = world.carrier()
        assert carrier.prepare("m", world.model(**settings), world.engine) is None
        told = carrier.describe("m", world.model(**settings))
        assert not told["carry"]
        assert reason in told["reason"]

    def test_switched_off_for_all_it_touches_no_disk(self, world: World) -> None:
        carrier = world.carrier(carry=False)
        assert carrier.prepare("m", world.model(), world.engine) is None
        assert carrier.describe("m", world.model())["reason"] == "switched off in the configuration"
        carrier.forget("m")
        assert not (world.folder / "kv").exists()

    async def test_process_of_a_removed_model_keeps_nothing_at_its_end(self, world: World) -> None:
        carrier = world.carrier()
        carry = carrier.prepare("m", world.model(), world.engine)
        assert carry
        carrier.reconfigure(KvConfig(directory=world.path("kv")), EngineConfig(), ["m"])
        await until(lambda: carry.off, "it is forgotten")
        assert carry.off == "the model was removed"
        assert carrier.prepare("m", world.model(), world.engine) is not carry, "one that is added again begins anew"

    @pytest.mark.parametrize("when", ["at the start", "later"])
    def test_a_directory_that_cannot_be_used_is_told_once(
        self, world: World, caplog: pytest.LogCaptureFixture, when: str
    ) -> None:
        spoil: Callable[[], object] = (world.folder / "kv").touch
        if when == "at the start":
            spoil()
        carrier = world.carrier()
        if when == "later":
            (world.folder / "kv").rmdir()
            spoil()
        with caplog.at_level(logging.WARNING):
            assert [carrier.prepare("m", world.model(), world.engine) for _ in range(3)] == [None] * 3
        assert "cannot be used" in carrier.describe("m", world.model())["reason"]
        assert len(caplog.records) == 1

    def test_a_file_that_is_gone_is_no_other_models_business(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        carrier = world.carrier()
        assert carrier.prepare("m", world.model(mmproj=world.path("gone.gguf")), world.engine) is None
        assert "gone.gguf" in caplog.text
        assert carried(carrier, world)


def test_what_people_see_of_a_model_that_carries(world: World) -> None:
    carrier = world.carrier()
    unused = {"carry": True, "reason": None, "saved_tokens": 0, "restored_tokens": 0}
    assert carrier.describe("m", world.model()) == unused
    carry = carried(carrier, world)
    carry.saved_tokens, carry.restored_tokens = 500, 400
    assert carrier.describe("m", world.model()) == unused | {"saved_tokens": 500, "restored_tokens": 400}
