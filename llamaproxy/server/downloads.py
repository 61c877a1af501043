"""Downloads that the gateway makes: which there are, how far they are, and how they end.

Owns the jobs and their bounds. What is fetched, and how, is `models.pull`'s; who may ask for it, `deploy`'s. The end of
one is a reload, which finds its model.
"""

import asyncio
import contextlib
import functools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from llamaproxy.errors import ConfigError, Conflict, GatewayError, NotFound, QueueFull
from llamaproxy.models.hub import Hub, access
from llamaproxy.models.pull import STREAMS, Pull
from llamaproxy.models.repository import Selection
from llamaproxy.tasks import spawn

log = logging.getLogger(__name__)

MOST_UNFINISHED = 8
MOST_KEPT = 64
"""Jobs that are told of; the oldest finished ones are forgotten first."""


class JobState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(slots=True)
class Job:
    """One model on its way; times in Unix seconds."""

    id: str
    pull: Pull
    state: JobState = JobState.RUNNING
    error: GatewayError | None = None
    started_at: float = field(default_factory=time.time)
    ended_at: float | None = None

    @property
    def selection(self) -> Selection:
        return self.pull.selection


class Downloads:
    """`version` is another one after every change; `changed` waits for that."""

    def __init__(self, finished: Callable[[], Awaitable[object]]) -> None:
        self._finished = finished
        self._hub: Hub | None = None
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[str, asyncio.Task[GatewayError | None]] = {}
        self._streams = asyncio.Semaphore(STREAMS)
        self._news = asyncio.Event()
        self.version = 0

    @property
    def jobs(self) -> list[Job]:
        """The newest first."""
        return list(reversed(self._jobs.values()))

    @property
    def unfinished(self) -> int:
        return len(self._tasks)

    def job(self, identity: str) -> Job:
        """Raises NotFound."""
        if job := self._jobs.get(identity):
            return job
        raise NotFound(f"there is no download {identity[:64]!r}")

    async def hub(self) -> Hub:
        """The session of all downloads. Raises ConfigError where the environment names no hub."""
        if self._hub is None:
            told = await asyncio.to_thread(access)
            self._hub = self._hub or Hub(told)
        return self._hub

    async def start(self, selection: Selection, directory: Path) -> Job:
        """Raises Conflict where this name is on its way already, and QueueFull."""
        hub = await self.hub()
        pull = Pull(hub, selection, directory, streams=self._streams, changed=self._note)
        await asyncio.to_thread(pull.is_there)
        if any(self._jobs[identity].selection.name == selection.name for identity in self._tasks):
            raise Conflict(f"{selection.name} is being pulled already")
        if self.unfinished >= MOST_UNFINISHED:
            raise QueueFull(f"{MOST_UNFINISHED} downloads are on their way already", retry_after=60)
        job = Job(secrets.token_hex(8), pull)
        self._jobs[job.id] = job
        task = spawn(self._run(job), name=f"download {selection.name}")
        self._tasks[job.id] = task
        task.add_done_callback(functools.partial(self._ended, job))
        self._forget()
        self._note()
        return job

    def cancel(self, identity: str) -> Job:
        """What there is of it stays, for the next time. Raises NotFound; what has ended stays as it is."""
        job = self.job(identity)
        if task := self._tasks.get(identity):
            task.cancel()
        return job

    async def changed(self, since: int, timeout: float) -> None:
        """Returns once `version` is not `since` any more, or after so many seconds."""
        try:
            async with asyncio.timeout(timeout):
                while self.version == since:
                    await self._news.wait()
        except TimeoutError:
            return

    async def close(self) -> None:
        """Stop all of them; nothing that was fetched is lost."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        hub, self._hub = self._hub, None
        if hub:
            await hub.close()

    async def _run(self, job: Job) -> GatewayError | None:
        """Why it failed, for a reason that is no fault of the gateway's."""
        try:
            await job.pull.run()
        except GatewayError as error:
            log.error("pulling %s failed: %s", job.selection.name, error.message)
            return error
        log.info("pulled %s from %s", job.selection.name, job.selection.repository)
        with contextlib.suppress(ConfigError):  # the reload has told
            await self._finished()
        return None

    def _ended(self, job: Job, task: "asyncio.Task[GatewayError | None]") -> None:
        """A task may be cancelled before it has run at all."""
        if task.cancelled():
            job.state = JobState.CANCELLED
        elif task.exception():
            job.state, job.error = JobState.FAILED, GatewayError("the gateway failed; its log says why")
        else:
            job.error = task.result()
            job.state = JobState.FAILED if job.error else JobState.DONE
        job.ended_at = time.time()
        del self._tasks[job.id]
        self._note()

    def _forget(self) -> None:
        ended = [identity for identity in self._jobs if identity not in self._tasks]
        for identity in ended[: max(0, len(self._jobs) - MOST_KEPT)]:
            del self._jobs[identity]

    def _note(self) -> None:
        self.version += 1
        news, self._news = self._news, asyncio.Event()
        news.set()
