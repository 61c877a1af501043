"""The compiled build: what is compiled exists, and what `make compiled` tests is compiled."""

import importlib
import importlib.util
import inspect
import pkgutil
import tomllib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hatchling.metadata.core import ProjectMetadata
from packaging.requirements import Requirement

import llamaproxy

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
HOOK: dict[str, Any] = PROJECT["tool"]["hatch"]["build"]["hooks"]["custom"]
INSTALLED = Path(llamaproxy.__file__).parents[1]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / HOOK["path"])
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load()


def dotted(module: str) -> str:
    return module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def hook(target: str = "wheel") -> Any:
    return build.Build(str(ROOT), HOOK, None, ProjectMetadata(str(ROOT), None, PROJECT), "", target)


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing here is to build one."""
    monkeypatch.setenv("LLAMAPROXY_SKIP_FRONTEND", "1")
    monkeypatch.delenv("LLAMAPROXY_COMPILE", raising=False)
    yield


class TestList:
    def test_it_names_modules_that_exist(self) -> None:
        compiled = build.modules(INSTALLED, HOOK["compile"])
        assert {"llamaproxy/core/framing.py", "llamaproxy/server/splice.py"} <= set(compiled)
        assert "llamaproxy/core/states.py" not in compiled

    @pytest.mark.parametrize("gone", ["llamaproxy/core/gone.py", "!llamaproxy/core/gone.py"])
    def test_a_module_that_was_renamed_is_missed(self, gone: str) -> None:
        with pytest.raises(SystemExit, match="there is no such module"):
            build.modules(INSTALLED, ["llamaproxy/core/*.py", gone])

    def test_no_class_of_the_source_extends_a_compiled_one(self) -> None:
        """It could not be made. Named tuples and enumerations are left as they are."""
        compiled = {dotted(module) for module in build.modules(INSTALLED, HOOK["compile"])}
        there = {found.name for found in pkgutil.walk_packages(llamaproxy.__path__, "llamaproxy.")}
        for module in sorted(there - compiled - {"llamaproxy.__main__"}):
            for _, kind in inspect.getmembers(importlib.import_module(module), inspect.isclass):
                bases = [base for base in kind.__mro__[1:] if not issubclass(base, tuple | Enum)]
                assert kind.__module__ != module or compiled.isdisjoint(base.__module__ for base in bases), kind


class TestHook:
    def test_nothing_is_compiled_unless_asked_for(self, tmp_path: Path) -> None:
        data: dict[str, Any] = {"force_include": {}}
        one = hook()
        assert one.dependencies() == []
        one.initialize("standard", data)
        assert data == {"force_include": {}}

    def test_a_compiled_wheel_needs_the_compiler_and_what_modules_import(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLAMAPROXY_COMPILE", "1")
        wanted = hook().dependencies()
        assert {Requirement(one).name for one in wanted} >= {"mypy", "setuptools", "aiohttp", "orjson"}

    @pytest.mark.parametrize(("target", "version"), [("sdist", "standard"), ("wheel", "editable")])
    def test_only_wheels_have_libraries(self, target: str, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLAMAPROXY_COMPILE", "1")
        data: dict[str, Any] = {"force_include": {}}
        hook(target).initialize(version, data)
        assert data == {"force_include": {}}

    def test_without_a_compiler_it_ends_with_one_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(SystemExit, match="needs a C compiler"):
            build.compile_modules(INSTALLED, HOOK["compile"], tmp_path)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.compiled
@pytest.mark.parametrize("module", build.modules(INSTALLED, HOOK["compile"]))
def test_what_is_tested_is_compiled(module: str) -> None:
    """Neither this process nor those that it starts here find the source."""
    assert str(importlib.import_module(dotted(module)).__file__).endswith((".so", ".pyd"))
