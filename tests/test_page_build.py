"""dashboard/hatch_build.py: the page is built when its sources are others, and a failure is one sentence."""

import importlib.util
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
Node = Callable[[str], Path]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "dashboard" / "hatch_build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hook = load()


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "dashboard"
    for name in ("index.html", "src/main.ts", "tests/main.test.ts", "node_modules/vue/index.js", "README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, "utf-8")
    return folder


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Makes a Node of a shell script, which is called with the arguments of the real one."""

    def make(script: str) -> Path:
        program = tmp_path / "node" / "bin" / "node"
        npm = tmp_path / "node" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        npm.parent.mkdir(parents=True)
        npm.touch()
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", os.pathsep.join((str(program.parent), os.environ["PATH"])))
        return program

    return make


BUILDS = """
case "$1" in
  --version) echo v24.1.0 ;;
  *npm-cli.js) mkdir -p node_modules ;;
  *vite.js) mkdir -p dist/assets; cp index.html dist/; cp src/main.ts dist/assets/main.js ;;
esac
"""


class TestStaleness:
    def test_a_page_that_was_never_built_is_stale(self, sources: Path, tmp_path: Path) -> None:
        assert hook.is_stale(sources, tmp_path / "page")

    @pytest.mark.parametrize(
        ("name", "changes"),
        [
            *(("src/main.ts", True), ("src/new.ts", True), ("index.html", True)),
            *(("tests/main.test.ts", False), ("node_modules/vue/index.js", False), ("README.md", False)),
        ],
    )
    def test_only_what_the_page_is_made_of_counts(self, sources: Path, name: str, changes: bool) -> None:
        before = hook.fingerprint(sources)
        (sources / name).write_text("another", "utf-8")
        assert (hook.fingerprint(sources) != before) is changes

    def test_a_file_that_was_moved_counts(self, sources: Path) -> None:
        before = hook.fingerprint(sources)
        (sources / "src" / "main.ts").rename(sources / "src" / "index.ts")
        assert hook.fingerprint(sources) != before


class TestBuilding:
    def test_it_is_done_beside_the_sources_not_in_them(self, sources: Path, tmp_path: Path, node: Node) -> None:
        node(BUILDS)
        target = tmp_path / "page"
        target.mkdir()
        (target / "old.js").touch()
        hook.build(sources, target)
        assert (target / "assets" / "main.js").read_text("utf-8") == "src/main.ts"
        assert not (target / "old.js").exists()
        assert not (sources / "dist").exists()
        assert not hook.is_stale(sources, target)

    @pytest.mark.parametrize(
        ("script", "said"),
        [
            ('[ "$1" = --version ] && echo v24.1.0 || { echo no route >&2; exit 1; }', "npm could not fetch"),
            ('case "$1" in --version) echo v24.1.0;; *vite.js) exit 1;; esac', "could not be built"),
        ],
    )
    def test_a_failure_says_what_to_do(self, sources: Path, tmp_path: Path, node: Node, script: str, said: str) -> None:
        node(script)
        with pytest.raises(SystemExit) as ended:
            hook.build(sources, tmp_path / "page")
        assert said in str(ended.value)
        assert "LLAMAPROXY_SKIP_FRONTEND=1" in str(ended.value)
        assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(
    ("version", "taken"), [("v22.12.0", True), ("v24.0.1", True), ("v22.11.9", False), ("?", False)]
)
def test_a_node_that_is_too_old_is_not_taken(node: Node, version: str, taken: bool) -> None:
    program = node(f"echo {version}")
    assert hook._node_on_path() == (program if taken else None)


@pytest.mark.parametrize(("skip", "wanted"), [("1", []), ("", [hook.NODE])])
def test_it_asks_for_a_node_only_where_it_will_build(
    sources: Path, tmp_path: Path, node: Node, monkeypatch: pytest.MonkeyPatch, skip: str, wanted: list[str]
) -> None:
    node("echo v1.0.0")
    monkeypatch.setenv("LLAMAPROXY_SKIP_FRONTEND", skip)
    one = hook.PageHook(str(tmp_path), {}, None, None, str(tmp_path / "dist"), "wheel")
    assert one.dependencies() == wanted
