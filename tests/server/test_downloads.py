"""llamaproxy.server.downloads: jobs, their bounds and their ends."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from llamaproxy.errors import Conflict, NotFound, QueueFull
from llamaproxy.models.hub import Hub
from llamaproxy.models.repository import Selection
from llamaproxy.server import downloads
from llamaproxy.server.downloads import Downloads, JobState
from tests.gateway import until
from tests.models.fakehub import FakeHub
from tests.models.hubs import access, model, selected


class Bench:
    """Downloads of one model under many names; `reloads` counts their ends."""

    def __init__(self, fake: FakeHub, directory: Path) -> None:
        self.fake = fake
        self.directory = directory
        self.reloads = 0
        self.downloads = Downloads(self._finished)

    async def _finished(self) -> None:
        self.reloads += 1

    async def selection(self, name: str) -> Selection:
        async with Hub(access(self.fake)) as hub:
            return await selected(hub, name=name)

    async def start(self, name: str) -> downloads.Job:
        return await self.downloads.start(await self.selection(name), self.directory)

    def hang(self) -> None:
        async def never(path: str, request: web.Request) -> web.Response:
            await asyncio.Event().wait()
            raise AssertionError

        self.fake.storage = never


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with FakeHub({"m-Q8_0.gguf": model(tmp_path)}).running() as fake:
        monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
        made = Bench(fake, tmp_path / "models")
        yield made
        await made.downloads.close()


async def test_what_is_done_is_looked_for(bench: Bench) -> None:
    job = await bench.start("one")
    assert job.state is JobState.RUNNING
    await until(lambda: job.state is JobState.DONE, "it is done")
    assert (bench.reloads, job.error, bench.downloads.unfinished) == (1, None, 0)
    assert (bench.directory / "one" / "m-Q8_0.gguf").exists()


async def test_what_fails_says_why(bench: Bench) -> None:
    selection = await bench.selection("one")
    bench.fake.gated = True
    job = await bench.downloads.start(selection, bench.directory)
    await until(lambda: job.state is JobState.FAILED, "it fails")
    assert job.error and job.error.code == "hub_denied"
    assert bench.reloads == 0


async def test_one_of_a_name(bench: Bench) -> None:
    bench.hang()
    await bench.start("one")
    with pytest.raises(Conflict):
        await bench.start("one")


async def test_no_more_than_there_may_be(bench: Bench) -> None:
    bench.hang()
    for number in range(downloads.MOST_UNFINISHED):
        await bench.start(f"m{number}")
    with pytest.raises(QueueFull):
        await bench.start("more")


async def test_cancelled_ones_stay_to_be_seen(bench: Bench) -> None:
    bench.hang()
    job = await bench.start("one")
    assert bench.downloads.cancel(job.id) is job
    await until(lambda: job.state is JobState.CANCELLED, "it is cancelled")
    assert bench.downloads.cancel(job.id).state is JobState.CANCELLED
    with pytest.raises(NotFound):
        bench.downloads.cancel("other")


async def test_the_oldest_are_forgotten(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "MOST_KEPT", 2)
    jobs = []
    for name in ("a", "b", "c", "d"):
        jobs.append(job := await bench.start(name))
        await until(lambda job=job: job.state is JobState.DONE, "it is done")  # type: ignore[misc] # mypy: default of a lambda
    assert bench.downloads.jobs == [jobs[3], jobs[2]]


async def test_closing_stops_them(bench: Bench) -> None:
    bench.hang()
    job = await bench.start("one")
    await bench.downloads.close()
    assert job.state is JobState.CANCELLED


async def test_news_wake_who_waits(bench: Bench) -> None:
    version = bench.downloads.version
    await bench.downloads.changed(version, 0.01)
    waiting = asyncio.get_running_loop().create_task(bench.downloads.changed(version, 60))
    await asyncio.sleep(0)
    await bench.start("one")
    await asyncio.wait_for(waiting, 10)
    assert bench.downloads.version > version
