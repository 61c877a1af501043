"""A configuration with everything on the disk that belongs to it, and how two of them differ.

Owns which models there are and what tells one model's files, and one engine, from others. Puts nothing in force and
does not know when to look: `reload` does.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llamaproxy.backends import engine
from llamaproxy.config import Config
from llamaproxy.edits import Document
from llamaproxy.effective import Origins
from llamaproxy.models import catalogue
from llamaproxy.models.catalogue import Catalogue, Model
from llamaproxy.models.scan import Scan, scan

log = logging.getLogger(__name__)

_OF_PROCESSES = {"path": ("binary", "args", "env"), "command": ("env",), "url": ()}
"""Settings of the engine that running processes have been started with, by the kind of their model."""

Version = tuple[object, ...] | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration with everything on the disk that belongs to it; `versions` tell one model's files from others.

    `origins` say where its values come from.
    """

    config: Config
    found: Scan
    catalogue: Catalogue
    versions: Mapping[str, Version]
    origins: Origins = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of models. `changed` ones have their process replaced once it has ended what it is answering."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = {"added": self.added, "removed": self.removed, "changed": self.changed}
        return "; ".join(f"{what} {', '.join(names)}" for what, names in parts.items() if names) or "no model changed"


def load(
    config: Config, before: Scan | None = None, origins: Origins | None = None, edited: Document | None = None
) -> Loaded:
    """Look for the models of a configuration; `edited` are settings of those it does not name. Blocks on the disk."""
    found = scanned(config, before)
    models = catalogue.build(config, engine.bundled_model(), found.models, edited)
    signatures: dict[str, Version] = {model.name: model.signature for model in found.models}
    versions = {name: signatures[name] if m.source == "scanned" else _version(m) for name, m in models.models.items()}
    return Loaded(config, found, models, versions, origins or {})


def compare(old: Loaded, new: Loaded) -> Changes:
    """What is different for whom. Everybody's process is another one where the engine is."""
    before, after = old.catalogue.models, new.catalogue.models

    def same_engine(model: Model) -> bool:
        settings = _OF_PROCESSES[model.config.kind]
        return all(getattr(old.config.engine, key) == getattr(new.config.engine, key) for key in settings)

    changed = (
        name
        for name in after
        if name in before
        and not (
            same_engine(after[name])
            and old.versions[name] == new.versions[name]
            and after[name].config.starts_like(before[name].config)
        )
    )
    return Changes(
        tuple(name for name in after if name not in before),
        tuple(name for name in before if name not in after),
        tuple(changed),
    )


def tell_problems(found: Scan, before: Scan | None = None) -> None:
    """What is no model in the directory, once."""
    for problem in found.problems:
        if before is None or problem not in before.problems:
            log.warning("catalog.models_dir: %s: %s", problem.entry, problem.reason)


def scanned(config: Config, before: Scan | None) -> Scan:
    """What the directory holds, with a look at what is another than before."""
    directory = config.catalog.models_dir
    return scan(Path(directory), before) if directory else Scan()


def _version(model: Model) -> Version:
    if model.config.path is None:
        return None
    try:
        status = Path(model.config.path).stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
