"""`/api/deploy`: models from the Hugging Face hub into `catalog.models_dir`.

Handlers only. HTTP may have the gateway fetch files of a model into that directory, and nothing else, where
`catalog.downloads` says so: which hub it is, and with which token, comes from the environment.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import psutil
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from llamaproxy.errors import ConfigError, Conflict, Forbidden, InvalidRequest, QueueFull
from llamaproxy.models import offer, repository
from llamaproxy.models.fit import Fits, Room
from llamaproxy.models.repository import HubFile, Selection
from llamaproxy.server.answers import json_response
from llamaproxy.server.current import Current
from llamaproxy.server.downloads import Downloads, Job, JobState
from llamaproxy.server.passthrough import written

MOST_STREAMS = 32
_MOST_PLANS = 2
"""At once: each fetches some megabytes."""
_PACE = 0.5
"""Seconds between two events: who follows sees the newest state, not every one."""
_HEARTBEAT = 15.0
_PATIENCE = 10.0
"""Seconds for a client to take an event."""

FileName = Annotated[str, Field(min_length=1)]
"""A body has 64 KiB at most; what the hub does not offer is refused."""


class Wanted(BaseModel):
    """A repository, and one of its quantisations, or the files of one; `name` is what the model shall be called."""

    model_config = ConfigDict(extra="forbid")
    repo: str
    quant: FileName | None = None
    files: list[FileName] | None = Field(None, min_length=1)
    name: str | None = None
    revision: str = "main"


@dataclass(frozen=True, slots=True)
class ShownFile:
    """`size` in bytes; `done` of them are here."""

    path: str
    size: int
    done: int


@dataclass(frozen=True, slots=True)
class ShownError:
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ShownJob:
    """Sizes in bytes, `speed` in bytes a second, times in seconds since the epoch."""

    id: str
    state: JobState
    repo: str
    commit: str
    quant: str
    name: str
    done: int
    total: int
    speed: float | None
    files: list[ShownFile]
    error: ShownError | None
    started_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class JobPage:
    """The newest first."""

    jobs: list[ShownJob]


@dataclass(frozen=True, slots=True)
class ShownFit:
    """Bytes. `needed` with the model's own `context`, `needed_small` with 4,096 tokens.

    `room` is RAM and GPUs together, or their budgets; `on_gpu`: the GPUs have room for all of it.
    """

    fits: Fits
    needed: int
    needed_small: int
    room: int
    context: int | None
    on_gpu: bool


@dataclass(frozen=True, slots=True)
class ShownQuantisation:
    """`size` is that of its files together, `name` what the model would be called."""

    quant: str
    name: str
    size: int
    files: list[ShownFile]
    fit: ShownFit


@dataclass(frozen=True, slots=True)
class Plan:
    """What a repository offers, the smallest first; `projector` comes with each unless `files` say otherwise."""

    repo: str
    commit: str
    quantisations: list[ShownQuantisation]
    projectors: list[ShownFile]
    projector: str | None
    problems: list[str]


class Deploy:
    """Handlers for `/api/deploy`; `vram` tells the bytes of all GPUs together."""

    def __init__(self, current: Current, downloads: Downloads, vram: Callable[[], int]) -> None:
        self._current = current
        self._downloads = downloads
        self._vram = vram
        self._plans = asyncio.Semaphore(_MOST_PLANS)
        self._streams = 0

    async def page(self, request: web.Request) -> web.Response:
        return json_response(self._page())

    async def plan(self, request: web.Request) -> web.Response:
        """Raises Forbidden, ConfigError, InvalidRequest, RepositoryNotFound or HubError."""
        self._directory()
        name = repository.check_repository(request.query.get("repo", ""))
        revision = repository.check_revision(request.query.get("revision", "main"))
        async with self._plans:
            hub = await self._downloads.hub()
            found = await hub.repository(name, revision)
            offered = await offer.offers(hub, found, self._room())
        shown = [
            ShownQuantisation(
                each.quantisation.name,
                repository.choose(found, each.quantisation.name, None).name,
                each.quantisation.size,
                [_file(file) for file in each.quantisation.files],
                ShownFit(**asdict(each.fit)),
            )
            for each in offered
        ]
        chosen = found.projector.path if found.projector else None
        projectors = [_file(file) for file in found.projectors]
        return json_response(Plan(name, found.commit, shown, projectors, chosen, list(found.problems)))

    async def start(self, request: web.Request, wanted: Wanted) -> web.Response:
        """Answers once it is known what will be fetched. Raises what `plan` does, Conflict and QueueFull."""
        directory = self._directory()
        repository.check_repository(wanted.repo)
        if wanted.quant is not None and wanted.files is not None:
            raise InvalidRequest("files: give these or quant, not both", param="files")
        if wanted.name is not None:
            repository.check_model_name(wanted.name)
        async with self._plans:
            hub = await self._downloads.hub()
            found = await hub.repository(wanted.repo, wanted.revision)
        if wanted.files is not None:
            selection = repository.choose_files(found, wanted.files, wanted.name)
        else:
            selection = repository.choose(found, wanted.quant, wanted.name)
        self._check_free(selection)
        job = await self._downloads.start(selection, directory)
        return json_response(_shown(job), 202)

    async def one(self, request: web.Request, identity: str) -> web.Response:
        """Raises NotFound."""
        return json_response(_shown(self._downloads.job(identity)))

    async def cancel(self, request: web.Request, identity: str) -> web.Response:
        """Answers at once. Raises NotFound."""
        return json_response(_shown(self._downloads.cancel(identity)))

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Events with all jobs, until none is on its way. Raises QueueFull."""
        if self._streams >= MOST_STREAMS:
            raise QueueFull(f"{MOST_STREAMS} clients follow the downloads already", retry_after=30)
        self._streams += 1
        try:
            return await self._follow(request)
        finally:
            self._streams -= 1

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        fields = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=fields)
        await response.prepare(request)
        while True:
            version, unfinished = self._downloads.version, self._downloads.unfinished
            await written(response, _event("jobs", self._page()), request, _PATIENCE)
            if not unfinished:
                break
            await asyncio.sleep(_PACE)
            await self._downloads.changed(version, _HEARTBEAT)
        await written(response, _event("end", {}), request, _PATIENCE)
        return response

    def _directory(self) -> Path:
        catalog = self._current.config.catalog
        if not catalog.downloads:
            raise Forbidden("downloads are off; `downloads = true` in [catalog] lets administrators pull models")
        if catalog.models_dir is None:
            raise ConfigError("catalog.models_dir is not set: there is no place for models")
        return Path(catalog.models_dir)

    def _check_free(self, selection: Selection) -> None:
        """A model that is scanned is the directory's business; any other would hide the one that is pulled."""
        catalogue = self._current.catalogue
        taken = {alias for model in catalogue.models.values() for alias in model.config.aliases}
        known = catalogue.models.get(selection.name)
        if selection.name in taken or (known and known.source == "configured"):
            raise Conflict(f"there is a model {selection.name} already; give this one another name", param="name")

    def _room(self) -> Room:
        limits = self._current.config.limits
        ram = limits.memory_budget or psutil.virtual_memory().total
        return Room(ram, sum(limits.vram_budgets) or self._vram())

    def _page(self) -> JobPage:
        return JobPage([_shown(job) for job in self._downloads.jobs])


def _shown(job: Job) -> ShownJob:
    selection, progress, running = job.selection, job.pull.progress, job.state is JobState.RUNNING
    return ShownJob(
        id=job.id,
        state=job.state,
        repo=selection.repository,
        commit=selection.commit,
        quant=selection.quantisation,
        name=selection.name,
        done=progress.done,
        total=progress.total,
        speed=progress.speed() if running else None,
        files=[_file(file, progress.files.get(file.name, 0)) for file in selection.files],
        error=ShownError(job.error.code, job.error.message) if job.error else None,
        started_at=round(job.started_at, 3),
        ended_at=job.ended_at and round(job.ended_at, 3),
    )


def _file(file: HubFile, done: int = 0) -> ShownFile:
    return ShownFile(file.path, file.size, done)


def _event(name: str, content: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(content) + b"\n\n"
