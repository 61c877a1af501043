"""llamaproxy.models.download: one file, resumed, checked and bounded."""

import asyncio
import errno
import gc
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from llamaproxy.errors import ChecksumMismatch, DiskFull, GatewayError, HubBusy, HubDenied, HubError
from llamaproxy.models import download
from llamaproxy.models.download import Download, Part, Rules, check_disk, in_thread
from llamaproxy.models.hub import Hub
from llamaproxy.models.repository import HubFile, Selection
from tests.gateway import until
from tests.models.fakehub import FakeHub, broken
from tests.models.hubs import QUICK, access, selected

PATH = "m-Q8_0.gguf"
CONTENT = os.urandom(9 * 1024**2)


@pytest.fixture
async def fake() -> AsyncIterator[FakeHub]:
    async with FakeHub({PATH: CONTENT}).running() as hub:
        yield hub


class Bench:
    """One download into a folder, again and again."""

    def __init__(self, fake: FakeHub, folder: Path) -> None:
        self.fake = fake
        self.folder = folder
        self.told: list[int] = []
        self.selection: Selection | None = None

    @property
    def part(self) -> Path:
        assert self.selection
        return self.folder / f"{self.selection.files[0].identity}.part"

    async def run(self, rules: Rules = QUICK, stall: float = 5.0) -> bytes:
        async with Hub(access(self.fake), stall) as hub:
            self.selection = self.selection or await selected(hub)
            one = Download(hub, self.selection, self.selection.files[0], rules, self.told.append)
            await one.run(self.folder, self.folder / "whole")
        return (self.folder / "whole").read_bytes()

    def breaks(self, after: int, times: int = 1) -> None:
        """The next answers stop after so many bytes."""
        left = [after] * times

        def answer(path: str, request: web.Request) -> Any:
            if left:
                start = request.http_range.start or 0
                return broken(request, CONTENT, start, left.pop(), len(CONTENT))
            return None

        self.fake.storage = answer


@pytest.fixture
def bench(fake: FakeHub, tmp_path: Path) -> Bench:
    return Bench(fake, tmp_path)


async def test_arrives_whole_and_leaves_nothing_behind(bench: Bench) -> None:
    assert await bench.run() == CONTENT
    assert [path.name for path in bench.folder.iterdir()] == ["whole"]
    assert bench.told == sorted(bench.told)
    assert bench.told[-1] == len(CONTENT)


async def test_goes_on_where_the_connection_broke(bench: Bench) -> None:
    bench.breaks(5_000_000, times=2)
    bench.breaks(1_000_000, times=2)
    assert await bench.run() == CONTENT
    starts = [int(span.removeprefix("bytes=").partition("-")[0]) for span in bench.fake.ranges()]
    assert starts == [0, 1_000_000, 2_000_000]


async def test_gives_up_after_so_many_tries_and_keeps_what_came(bench: Bench) -> None:
    bench.breaks(0, times=99)
    with pytest.raises(HubError, match="broke off"):
        await bench.run()
    assert len(bench.fake.ranges()) == QUICK.tries
    bench.breaks(700, times=3)
    with pytest.raises(HubError):
        await bench.run(Rules(margin=0, tries=3, progress=1000, delay=0.001))
    assert bench.part.stat().st_size == 2100
    bench.fake.storage = None
    assert await bench.run() == CONTENT
    assert bench.fake.ranges()[-1].startswith("bytes=2100-")


async def test_asks_for_pieces_where_one_answer_would_be_too_large(bench: Bench) -> None:
    assert await bench.run(Rules(margin=0, piece=4_000_000)) == CONTENT
    assert bench.fake.ranges() == ["bytes=0-3999999", "bytes=4000000-7999999", f"bytes=8000000-{len(CONTENT) - 1}"]


async def test_a_part_of_another_sender_version_is_not_gone_on_with(bench: Bench) -> None:
    """If-Range: who stores the file says whether it is still the one that was begun."""
    bench.breaks(1_000_000, times=1)
    strange = FakeHub.part

    def other(path: str, request: web.Request) -> web.Response:
        bench.fake.etag = '"v2"'
        return strange(bench.fake, path, request)

    await _begun(bench)
    bench.fake.storage = other
    assert await bench.run() == CONTENT
    assert bench.fake.of("storage")[-1].headers["If-Range"] == '"v1"'


async def _begun(bench: Bench) -> None:
    """With a part of what the storage has, and its ETag."""

    async def some(path: str, request: web.Request) -> web.StreamResponse:
        headers = {"ETag": bench.fake.etag, "Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
        response = web.StreamResponse(status=206, headers=headers)
        response.content_length = len(CONTENT)
        await response.prepare(request)
        await response.write(CONTENT[:1_000_000])
        assert request.transport
        request.transport.close()
        return response

    bench.fake.storage = some
    with pytest.raises(HubError):
        await bench.run(Rules(margin=0, tries=1))
    assert bench.part.stat().st_size == 1_000_000


async def test_a_wrong_checksum_is_believed_the_second_time(bench: Bench) -> None:
    spoilt = bytes(len(CONTENT))
    answers = [web.Response(body=spoilt)]
    bench.fake.storage = lambda *_: answers.pop() if answers else None
    assert await bench.run() == CONTENT
    (bench.folder / "whole").unlink()
    bench.fake.storage = lambda *_: web.Response(body=spoilt)
    with pytest.raises(ChecksumMismatch):
        await bench.run()
    assert not (bench.folder / "whole").exists()
    assert bench.part.stat().st_size == 0


async def test_a_spoilt_part_is_found_out(bench: Bench) -> None:
    await _begun(bench)
    with bench.part.open("r+b") as part:
        part.write(b"not what came")
    bench.fake.storage = None
    assert await bench.run() == CONTENT
    assert bench.fake.ranges()[-1].startswith("bytes=0-")


async def test_a_part_that_is_too_long_is_begun_anew(bench: Bench) -> None:
    await _begun(bench)
    with bench.part.open("ab") as part:
        part.truncate(len(CONTENT) + 1)
    bench.fake.storage = None
    assert await bench.run() == CONTENT


async def test_more_than_was_said_is_not_written(bench: Bench) -> None:
    bench.fake.storage = lambda *_: web.Response(
        status=206, body=CONTENT + b"more", headers={"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
    )
    with pytest.raises(HubError, match="longer"):
        await bench.run()


async def test_a_silent_storage_is_left(bench: Bench) -> None:
    async def silence(path: str, request: web.Request) -> web.StreamResponse:
        if len(bench.fake.ranges()) > 1:
            return bench.fake.part(path, request)
        response = web.StreamResponse(
            status=206, headers={"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
        )
        await response.prepare(request)
        await response.write(CONTENT[:1000])
        await asyncio.Event().wait()
        return response

    bench.fake.storage = silence
    assert await bench.run(stall=0.3) == CONTENT
    assert bench.fake.ranges()[1].startswith("bytes=1000-")


async def test_a_denial_is_final(bench: Bench) -> None:
    async with Hub(access(bench.fake)) as hub:
        bench.selection = await selected(hub)
    bench.fake.seen.clear()
    bench.fake.gated = True
    with pytest.raises(HubDenied):
        await bench.run()
    assert len(bench.fake.seen) == 1


async def test_who_is_told_to_wait_waits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def noted(seconds: float) -> None:
        waits.append(seconds)

    async with Hub(access(bench.fake)) as hub:
        bench.selection = await selected(hub)
    bench.fake.refusals = [web.Response(status=429, headers={"Retry-After": "42"}), web.Response(status=502)]
    monkeypatch.setattr("llamaproxy.models.download.asyncio.sleep", noted)
    assert await bench.run() == CONTENT
    assert waits[0] == 42
    assert waits[1] <= QUICK.longest_delay
    bench.fake.refusals = [web.Response(status=429) for _ in range(9)]
    (bench.folder / "whole").unlink()
    with pytest.raises(HubBusy):
        await bench.run()


class TestDisk:
    async def test_the_margin_is_kept_while_it_is_written(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        room = [10**12, 10**12, 100]
        monkeypatch.setattr(download, "free", lambda _: room.pop(0) if len(room) > 1 else room[0])
        with pytest.raises(DiskFull, match="must stay free"):
            await bench.run(Rules(margin=1000))
        assert 0 < bench.part.stat().st_size < len(CONTENT)
        monkeypatch.undo()
        assert await bench.run() == CONTENT

    async def test_a_disk_that_is_full_all_the_same(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("llamaproxy.models.download.os.write", full)
        with pytest.raises(DiskFull, match="No space left"):
            await bench.run()
        monkeypatch.undo()
        assert await bench.run() == CONTENT

    async def test_a_folder_that_cannot_be_written(self, bench: Bench, tmp_path: Path) -> None:
        bench.folder = tmp_path / "none"
        with pytest.raises(GatewayError, match="cannot be written"):
            await bench.run()

    def test_before_anything_is_asked_for(self, tmp_path: Path) -> None:
        check_disk(tmp_path, 1, 1)
        with pytest.raises(DiskFull):
            check_disk(tmp_path, 2**60, 1)


def _stalls(bench: Bench) -> asyncio.Event:
    """The next answer stops on the way, and is never closed; set when it has."""
    arrived = asyncio.Event()

    async def slow(path: str, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            status=206, headers={"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
        )
        await response.prepare(request)
        await response.write(CONTENT[:5_000_000])
        arrived.set()
        await asyncio.Event().wait()
        return response

    bench.fake.storage = slow
    return arrived


async def test_cancelled_it_keeps_what_came(bench: Bench) -> None:
    arrived = _stalls(bench)
    running = asyncio.get_running_loop().create_task(bench.run())
    await arrived.wait()
    await until(lambda: bench.told, "something is written")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert CONTENT.startswith(bench.part.read_bytes())
    assert bench.part.stat().st_size >= 4_000_000
    bench.fake.storage = None
    assert await bench.run() == CONTENT


@pytest.mark.parametrize("error", [DiskFull("full"), HubError("too long"), OSError(errno.EIO, "broken")])
async def test_cancelled_it_ends_although_the_last_bytes_cannot_be_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    arrived = _stalls(bench)
    running = asyncio.get_running_loop().create_task(bench.run())
    await arrived.wait()
    await until(lambda: bench.told, "something is written")

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(Part, "write", refuse)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(running), 5)
    assert running.cancelled()


async def test_what_fails_in_a_thread_after_its_caller_gave_up_is_not_complained_of() -> None:
    begun, go = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait(10)
        raise DiskFull("full")

    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    running = asyncio.get_running_loop().create_task(in_thread(work))
    await asyncio.to_thread(begun.wait, 10)
    running.cancel()
    asyncio.get_running_loop().call_later(0.05, go.set)
    await asyncio.wait([running])
    assert running.cancelled()
    del running
    gc.collect()
    assert complaints == []


async def test_what_a_thread_does_ends_before_its_caller(tmp_path: Path) -> None:
    begun, go, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait(10)
        done.set()

    running = asyncio.get_running_loop().create_task(in_thread(work))
    await asyncio.to_thread(begun.wait, 10)
    running.cancel()
    asyncio.get_running_loop().call_later(0.05, go.set)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert done.is_set()


def test_a_part_begins_where_the_one_before_ended(tmp_path: Path) -> None:
    content = CONTENT[:2000]
    file = HubFile(PATH, len(content), hashlib.sha256(content).hexdigest())
    first = Part(tmp_path, file, 0)
    first.write(content[:100])
    first.note_sender('"x"')
    first.close()
    second = Part(tmp_path, file, 0)
    while second.take_up():
        pass
    assert (second.size, second.sender()) == (100, '"x"')
    second.write(content[100:])
    second.finish(tmp_path / "m")
    second.close()
    assert (tmp_path / "m").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
