"""Taking in what has changed on the disk."""

import asyncio
import os
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llamaproxy.config import Config
from llamaproxy.configfile import Fixed, Source
from llamaproxy.effective import Origin
from llamaproxy.errors import ConfigError
from llamaproxy.server import reload as module
from llamaproxy.server.loaded import Changes, Loaded, load
from llamaproxy.server.reload import Reloader
from llamaproxy.tasks import spawn
from tests.gateway import to_toml
from tests.models.ggufs import write


def config(**sections: Any) -> Config:
    return Config.model_validate(sections)


def rewrite(file: Path, text: str) -> None:
    file.write_text(text)


def remove(file: Path) -> None:
    file.unlink()


def stored(edits: Path) -> dict[str, Any]:
    return tomllib.loads(edits.read_text())


class Taker:
    """Takes what is applied, or refuses it."""

    def __init__(self) -> None:
        self.taken: list[tuple[Loaded, Changes]] = []
        self.refusal: ConfigError | None = None
        self.came = asyncio.Event()

    def __call__(self, loaded: Loaded, changes: Changes) -> None:
        if self.refusal:
            raise self.refusal
        self.taken.append((loaded, changes))
        self.came.set()


class TestReloader:
    @pytest.fixture
    def taker(self) -> Taker:
        return Taker()

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "llamaproxy.toml"
        path.write_text(to_toml({"models": {"a": {"path": "/a"}}}))
        return path

    @pytest.fixture
    def edits(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
        return tmp_path / "state" / "edits.toml"

    @pytest.fixture
    def reloader(self, file: Path, taker: Taker, edits: Path) -> Reloader:
        source = Source(file)
        return Reloader(source, taker, load(source.load()))

    async def test_new_content_is_applied_with_what_changed(self, reloader: Reloader, file: Path, taker: Taker) -> None:
        rewrite(file, to_toml({"models": {"b": {"path": "/b"}}}))
        changes = await reloader.reload()
        assert changes == Changes(added=("b",), removed=("a",))
        [(loaded, applied)] = taker.taken
        assert (list(loaded.config.models), applied) == (["b"], changes)
        assert (await reloader.reload()) == Changes(), "compared with what is in force now"

    async def test_broken_file_changes_nothing_and_is_remembered(
        self, reloader: Reloader, file: Path, taker: Taker, caplog: pytest.LogCaptureFixture
    ) -> None:
        rewrite(file, "[limits]\nmodels_mx = 1\n")
        with pytest.raises(ConfigError):
            await reloader.reload()
        assert reloader.error == "limits.models_mx: unknown key, did you mean models_max?"
        assert reloader.error in caplog.text
        assert not taker.taken
        rewrite(file, "")
        await reloader.reload()
        assert reloader.error is None

    async def test_file_that_is_gone_is_a_fault_and_not_the_end_of_all_models(
        self, reloader: Reloader, file: Path, taker: Taker
    ) -> None:
        remove(file)
        with pytest.raises(ConfigError, match="no such configuration file"):
            await reloader.reload()
        assert not taker.taken

    async def test_what_is_refused_is_not_what_the_next_one_is_compared_with(
        self, reloader: Reloader, file: Path, taker: Taker
    ) -> None:
        rewrite(file, to_toml({"models": {"b": {"path": "/b"}}}))
        taker.refusal = ConfigError("it cannot be")
        with pytest.raises(ConfigError):
            await reloader.reload()
        assert reloader.error == "it cannot be"
        taker.refusal = None
        assert (await reloader.reload()).added == ("b",)

    async def test_edits_are_in_force_and_on_the_disk(self, reloader: Reloader, edits: Path, taker: Taker) -> None:
        changes = await reloader.edit(lambda document, loaded: {**document, "models": {"b": {"path": "/b"}}})
        assert changes == Changes(added=("b",))
        assert list(reloader.loaded.config.models) == ["a", "b"]
        assert stored(edits) == {"models": {"b": {"path": "/b"}}}
        assert not reloader._is_news(reloader._look()), "it is no news to who watches"

    async def test_edits_that_are_refused_leave_no_trace(
        self, reloader: Reloader, edits: Path, taker: Taker, caplog: pytest.LogCaptureFixture
    ) -> None:
        await reloader.edit(lambda document, loaded: {"limits": {"queue_size": 5}})
        taker.refusal = ConfigError("it cannot be")
        for edit in (
            lambda document, loaded: {"limits": {"queue_size": 6}},
            lambda document, loaded: {"limits": {"queue_size": 0}},
        ):
            with pytest.raises(ConfigError):
                await reloader.edit(edit)
        assert stored(edits) == {"limits": {"queue_size": 5}}
        assert (reloader.loaded.config.limits.queue_size, reloader.error) == (5, None)
        assert "failed" not in caplog.text, "it is an answer, no accident"
        assert not reloader._is_news(reloader._look())

    async def test_a_fault_that_an_edit_meets_is_still_told_by_who_watches(
        self, reloader: Reloader, file: Path
    ) -> None:
        rewrite(file, "[sever]")
        with pytest.raises(ConfigError):
            await reloader.edit(lambda document, loaded: document)
        assert reloader._is_news(reloader._look())

    async def test_who_asked_for_an_edit_may_leave(self, reloader: Reloader, edits: Path, taker: Taker) -> None:
        asked = spawn(reloader.edit(lambda document, loaded: {"limits": {"queue_size": 5}}), name="ask")
        await asyncio.sleep(0)
        asked.cancel()
        await taker.came.wait()
        assert stored(edits) == {"limits": {"queue_size": 5}}
        assert reloader.loaded.config.limits.queue_size == 5

    async def test_who_asked_for_a_reload_may_leave(self, reloader: Reloader, file: Path, taker: Taker) -> None:
        rewrite(file, to_toml({"models": {"b": {"path": "/b"}}}))
        asked = spawn(reloader.reload(), name="ask")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait_for(taker.came.wait(), 10)
        assert list(reloader.loaded.config.models) == ["b"]

    async def test_what_follows_an_edit_has_its_turn_and_no_need_of_who_asked(
        self, reloader: Reloader, tmp_path: Path, edits: Path, taker: Taker
    ) -> None:
        order: list[str] = []

        def follow(loaded: Loaded) -> None:
            order.append(f"follow {loaded.config.limits.queue_size}")

        def another(document: Any, loaded: Loaded) -> Any:
            order.append("another")
            return {**document, "breaker": {"open": 5}}

        asked = spawn(reloader.edit(lambda document, loaded: {"limits": {"queue_size": 5}}, follow), name="ask")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asked.cancel()
        await reloader.edit(another)
        assert order == ["follow 5", "another"]

    async def test_file_and_directory_are_watched(
        self, tmp_path: Path, taker: Taker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "WATCH_INTERVAL", 0.01)
        (folder := tmp_path / "models").mkdir()
        file = tmp_path / "llamaproxy.toml"
        rewrite(file, to_toml({"catalog": {"models_dir": str(folder)}}))
        source = Source(file)
        reloader = Reloader(source, taker, load(source.load()))
        watching = spawn(reloader.watch(), name="watch")
        for change, expected in (
            (lambda: write(folder / "new.gguf"), "added"),
            (lambda: os.utime(folder / "new.gguf", ns=(1, 1)), "changed"),
            (lambda: (folder / "new.gguf").unlink(), "removed"),
        ):
            taker.came.clear()
            change()
            await asyncio.wait_for(taker.came.wait(), 10)
            assert getattr(taker.taken[-1][1], expected) == ("new",)
        taker.came.clear()
        rewrite(file, "[limits]\nmodels_max = 7\n")
        await asyncio.wait_for(taker.came.wait(), 10)
        assert taker.taken[-1][0].config.limits.models_max == 7
        watching.cancel()

    async def test_a_file_that_is_being_saved_is_left_alone(
        self, tmp_path: Path, taker: Taker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "WATCH_INTERVAL", 0)
        monkeypatch.setattr(module, "REST", 0)
        file = tmp_path / "llamaproxy.toml"
        rewrite(file, to_toml({"models": {"own": {"path": "/m"}}}))

        class Saved(Source):
            """Emptied before one look, and written again before the next."""

            looks = 0

            def signature(self) -> Any:
                Saved.looks += 1
                if Saved.looks == 3:
                    rewrite(file, to_toml({"models": {"own": {"path": "/m", "ctx_size": 512}}}))
                return super().signature()

        source = Saved(file)
        reloader = Reloader(source, taker, load(source.load()))
        rewrite(file, "")
        watching = spawn(reloader.watch(), name="watch")
        await asyncio.wait_for(taker.came.wait(), 10)
        watching.cancel()
        assert [changes.removed for _, changes in taker.taken] == [()]
        assert taker.taken[0][1].changed == ("own",)

    async def test_a_file_that_is_being_copied_is_no_reload(
        self, tmp_path: Path, taker: Taker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(module, "WATCH_INTERVAL", 0.01)
        monkeypatch.setattr(module, "REST", 0.05)
        (folder := tmp_path / "models").mkdir()
        file = tmp_path / "llamaproxy.toml"
        rewrite(file, to_toml({"catalog": {"models_dir": str(folder)}}))
        source = Source(file)
        reloader = Reloader(source, taker, load(source.load()))
        content = write(tmp_path / "whole.gguf").read_bytes()
        watching = spawn(reloader.watch(), name="watch")
        for size in range(len(content) - 30, len(content) - 10):
            (folder / "new.gguf").write_bytes(content[:size])
            await asyncio.sleep(0.02)
        assert (taker.taken, caplog.text) == ([], ""), "it is still changing"
        async with asyncio.timeout(10):
            while not caplog.records:
                assert not taker.taken
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        [told] = [record.getMessage() for record in caplog.records]
        assert "new.gguf: is incomplete" in told
        assert not taker.taken
        assert [problem.entry for problem in reloader.loaded.found.problems] == ["new.gguf"]
        (folder / "new.gguf").write_bytes(content)
        await asyncio.wait_for(taker.came.wait(), 10)
        assert [changes.added for _, changes in taker.taken] == [("new",)]
        watching.cancel()

    async def test_a_model_that_is_still_changing_is_left_alone(
        self, tmp_path: Path, taker: Taker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "WATCH_INTERVAL", 0.01)
        monkeypatch.setattr(module, "REST", 0.1)
        (folder := tmp_path / "models").mkdir()
        file = tmp_path / "llamaproxy.toml"
        rewrite(file, to_toml({"catalog": {"models_dir": str(folder)}}))
        source = Source(file)
        reloader = Reloader(source, taker, load(source.load()))
        watching = spawn(reloader.watch(), name="watch")
        model = write(folder / "new.gguf")
        for moment in range(20):
            os.utime(model, ns=(moment, moment))
            await asyncio.sleep(0.02)
        assert not taker.taken
        await asyncio.wait_for(taker.came.wait(), 10)
        watching.cancel()

    async def test_same_fault_is_told_once_whatever_else_is_new(
        self, tmp_path: Path, taker: Taker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        (folder := tmp_path / "models").mkdir()
        file = tmp_path / "llamaproxy.toml"
        rewrite(file, to_toml({"catalog": {"models_dir": str(folder)}}))
        source = Source(file)
        reloader = Reloader(source, taker, load(source.load()))
        rewrite(file, "[limits]\nmodels_mx = 1\n")
        write(folder / "new.gguf")
        with pytest.raises(ConfigError):
            await reloader.reload()
        assert not reloader._is_news(reloader._look())
        write(folder / "another.gguf")
        assert reloader._is_news(reloader._look())

    async def test_configuration_made_by_hand_stays(self, taker: Taker) -> None:
        settings = config(models={"a": {"path": "/m"}})
        reloader = Reloader(Fixed(settings), taker, load(settings))
        assert await reloader.reload() == Changes()
        assert reloader.file is None


async def test_what_is_put_in_force_by_hand_lasts_until_the_next_reload(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[limits]\nmodels_max = 3")
    source = Source(file)
    taken: list[Loaded] = []
    reloader = Reloader(source, lambda loaded, changes: taken.append(loaded), load(source.load()))
    reloader.amend(lambda loaded: replace(loaded, config=config(limits={"models_max": 7})))
    await reloader.reload()
    assert [loaded.config.limits.models_max for loaded in taken] == [7, 3]


async def test_what_cannot_be_put_in_force_changes_nothing() -> None:
    def refuse(loaded: Loaded, changes: Changes) -> None:
        raise ConfigError("no")

    before = load(config())
    reloader = Reloader(Fixed(before.config), refuse, before)
    with pytest.raises(ConfigError):
        reloader.amend(lambda loaded: replace(loaded, origins={("a",): Origin.RUNTIME}))
    assert reloader.origins == {}
