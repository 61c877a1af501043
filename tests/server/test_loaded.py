"""What there is to serve, and what makes a model's process another one."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from llamaproxy.config import Config
from llamaproxy.models.scan import Problem, Scan
from llamaproxy.server.loaded import Changes, compare, load, tell_problems
from tests.models.ggufs import write


def config(**sections: Any) -> Config:
    return Config.model_validate(sections)


def with_models(**models: dict[str, Any]) -> Config:
    return config(models={name: {"path": "/m", **settings} for name, settings in models.items()})


class TestLoad:
    def test_models_of_file_and_directory_are_found_together(self, tmp_path: Path) -> None:
        write(tmp_path / "scanned.gguf")
        loaded = load(config(models={"own": {"path": "/m"}}, catalog={"models_dir": str(tmp_path)}))
        assert list(loaded.catalogue.models) == ["own", "scanned"]
        assert loaded.versions["own"] is None, "its file is not there"
        assert loaded.versions["scanned"]

    def test_same_files_are_the_same_version(self, tmp_path: Path) -> None:
        file = write(tmp_path / "m.gguf")
        settings = config(models={"own": {"path": str(file)}}, catalog={"models_dir": str(tmp_path)})
        first = load(settings)
        assert load(settings, first.found).versions == first.versions
        os.utime(file, ns=(1, 1))
        assert not set(load(settings, first.found).versions.values()) & set(first.versions.values())


class TestCompare:
    def test_models_come_and_go(self) -> None:
        changes = compare(load(with_models(a={}, b={})), load(with_models(b={}, c={})))
        assert changes == Changes(added=("c",), removed=("a",))

    def test_what_a_process_is_started_with_changes_a_model(self) -> None:
        assert compare(load(with_models(a={}, b={})), load(with_models(a={"ctx_size": 9}, b={}))).changed == ("a",)

    @pytest.mark.parametrize("setting", [{"ttl": 5}, {"priority": 1}, {"pinned": True}, {"aliases": ["x"]}])
    def test_what_only_the_scheduler_knows_does_not(self, setting: dict[str, Any]) -> None:
        assert compare(load(with_models(a={})), load(with_models(a=setting))) == Changes()

    def test_another_file_under_the_same_name_changes_a_model(self, tmp_path: Path) -> None:
        file = tmp_path / "m.gguf"
        file.write_bytes(b"one")
        settings = config(models={"a": {"path": str(file)}})
        before = load(settings)
        file.write_bytes(b"other")
        assert compare(before, load(settings)).changed == ("a",)

    @pytest.mark.parametrize("engine", [{"args": ["-t", "1"]}, {"env": {"A": "1"}}, {"binary": "embedded"}])
    def test_another_engine_changes_them_all(self, engine: dict[str, Any]) -> None:
        models = {"a": {"path": "/a"}, "b": {"path": "/b"}}
        assert compare(load(config(models=models)), load(config(models=models, engine=engine))).changed == ("a", "b")

    def test_deadlines_are_no_other_engine(self) -> None:
        patient = config(models={"a": {"path": "/m"}}, engine={"stop_timeout": 99})
        assert compare(load(with_models(a={})), load(patient)) == Changes()

    def test_changes_are_told_in_words(self) -> None:
        assert str(Changes()) == "no model changed"
        assert str(Changes(added=("a", "b"), changed=("c",))) == "added a, b; changed c"


def test_engine_of_ours_is_nothing_to_other_servers(tmp_path: Path) -> None:
    models = {"own": {"command": ["x", "${port}"]}, "far": {"url": "http://h"}, "near": {"path": "/m"}}

    def changed(**engine: Any) -> tuple[str, ...]:
        before, after = (Config.model_validate({"engine": e, "models": models}) for e in ({}, engine))
        return compare(load(before), load(after)).changed

    assert changed(binary="/other") == changed(args=["-v"]) == ("near",)
    assert changed(env={"A": "1"}) == ("own", "near")


def test_problems_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    old, new = Problem("a.gguf", "is junk"), Problem("b.gguf", "is hidden")
    with caplog.at_level(logging.WARNING):
        tell_problems(Scan(problems=(old,)))
        tell_problems(Scan(problems=(old, new)), Scan(problems=(old,)))
    assert [record.getMessage() for record in caplog.records] == [
        "catalog.models_dir: a.gguf: is junk",
        "catalog.models_dir: b.gguf: is hidden",
    ]
