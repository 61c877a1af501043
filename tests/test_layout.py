"""The house rules that a machine can see: a test for every module, and modules that one can read.

`llamaproxy/a/b.py` has `tests/a/test_b.py`; a package's own code (`__init__.py`) has `test_package.py` there, and
`__main__.py` has `test_main.py`.
"""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "llamaproxy"
TESTS = ROOT / "tests"
LONGEST = 400

# These test the whole, or the house itself.
WITHOUT_MODULE = {
    *("test_layout.py", "test_docs.py", "test_page_build.py", "server/test_inbound_hostile.py"),
    *(f"core/test_scheduler_{part}.py" for part in ("laws", "memory", "starving", "reload", "settings", "priority")),
}
FOLDERS_WITHOUT_MODULES = {"bench", "engine", "faults", "fake", "e2e", "shipping"}


def modules() -> list[Path]:
    """Every module that has something in it."""
    return [
        path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py" or path.read_text("utf-8").strip()
    ]


def mirror(module: Path) -> str:
    """Where the test of a module stands, below tests/."""
    special = {"__init__": "package", "__main__": "main"}
    inside = module.relative_to(PACKAGE)
    return str(inside.with_name(f"test_{special.get(module.stem, module.stem)}.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("module", modules(), ids=name)
def test_every_module_has_its_test(module: Path) -> None:
    assert (TESTS / mirror(module)).is_file(), f"{name(module)} needs tests/{mirror(module)}"


def test_every_test_has_its_module() -> None:
    expected = {mirror(module) for module in modules()} | WITHOUT_MODULE
    found = {path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    assert {str(path) for path in found if path.parts[0] not in FOLDERS_WITHOUT_MODULES} <= expected


@pytest.mark.parametrize("module", modules(), ids=name)
def test_no_module_is_too_long_to_read(module: Path) -> None:
    assert len(module.read_text("utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("module", modules(), ids=name)
def test_every_module_says_what_it_is(module: Path) -> None:
    assert module.read_text("utf-8").startswith('"""')


def test_no_module_is_a_drawer_for_anything() -> None:
    drawers = {"util", "utils", "helper", "helpers", "common", "misc"}
    assert not [name(path) for path in (*PACKAGE.rglob("*"), *TESTS.rglob("*")) if path.stem in drawers]


def test_the_mirror() -> None:
    """The rule itself, on names that need not exist."""
    assert mirror(PACKAGE / "core" / "states.py") == "core/test_states.py"
    assert mirror(PACKAGE / "cli" / "__init__.py") == "cli/test_package.py"
    assert mirror(PACKAGE / "cli" / "init.py") == "cli/test_init.py"
    assert mirror(PACKAGE / "__init__.py") == "test_package.py"
    assert mirror(PACKAGE / "__main__.py") == "test_main.py"
