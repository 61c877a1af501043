"""What happens whenever a wheel, an sdist or an editable installation is made: the page is built into the package, and
the modules that pyproject.toml names are compiled into a wheel that is asked for with `LLAMAPROXY_COMPILE=1`.

Owns the compilation; the page is dashboard/hatch_build.py's. Writes nothing into the source tree, where an editable
installation would find what was compiled of an older source.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from runpy import run_path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GROUP = "llamaproxy"
"""The one library that all compiled modules share is called after it."""


class Build(BuildHookInterface[Any]):
    """Hatch's hook: see https://hatch.pypa.io/latest/plugins/build-hook/reference/."""

    PLUGIN_NAME = "custom"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        page = run_path(str(Path(self.root, "dashboard", "hatch_build.py")))["PageHook"]
        self._page: BuildHookInterface[Any] = page(*arguments)
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def dependencies(self) -> list[str]:
        """mypyc has to see the types of what the modules import."""
        compiling = [*self.config["compile-requires"], *self.metadata.core.dependencies] if self._compiles() else []
        return [*self._page.dependencies(), *compiling]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self._page.initialize(version, build_data)
        if self._compiles() and version != "editable":
            # What is in it is read after this; where it never is, the folder goes with the process.
            self._scratch = tempfile.TemporaryDirectory(prefix="llamaproxy-compiled-")
            scratch = Path(self._scratch.name)
            self.app.display_info("compiling; this takes minutes")
            for library in compile_modules(Path(self.root), self.config["compile"], scratch):
                build_data["force_include"][str(library)] = library.relative_to(scratch / "lib").as_posix()
            build_data.update(pure_python=False, infer_tag=True)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._scratch:
            self._scratch.cleanup()

    def _compiles(self) -> bool:
        return self.target_name == "wheel" and os.environ.get("LLAMAPROXY_COMPILE") == "1"


def modules(root: Path, patterns: Sequence[str]) -> list[str]:
    """Their files, from patterns relative to `root`; what follows a `!` is left out. A pattern that fits nothing ends
    the process: what it meant has been renamed."""
    found: set[str] = set()
    for pattern in patterns:
        fits = {path.relative_to(root).as_posix() for path in root.glob(pattern.removeprefix("!"))}
        if not fits:
            sys.exit(f"pyproject.toml names {pattern!r} to be compiled, and there is no such module")
        found = found - fits if pattern.startswith("!") else found | fits
    return sorted(found)


def compile_modules(root: Path, patterns: Sequence[str], scratch: Path) -> list[Path]:
    """The libraries, below `scratch`/lib as they shall lie in the wheel. Ends the process where it cannot be done."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if os.name != "nt" and not shutil.which(compiler):
        sys.exit(
            f"compiling needs a C compiler, and there is no {compiler}; without LLAMAPROXY_COMPILE=1 none is needed"
        )
    # mypyc extends the setuptools that were imported before it, and without them a module that Python has no more.
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    # isort: split
    from mypyc.build import mypycify

    before = Path.cwd()
    os.chdir(root)
    try:
        extensions = mypycify(
            [f"--cache-dir={scratch / 'cache'}", *modules(root, patterns)],
            opt_level="3",
            debug_level="0",
            group_name=GROUP,
            target_dir=str(scratch / "c"),
        )
    finally:
        os.chdir(before)
    command = build_ext(Distribution({"name": GROUP, "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(scratch / "lib"), str(scratch / "o")
    command.ensure_finalized()
    command.run()
    return sorted(path for path in (scratch / "lib").rglob("*") if path.is_file())
