"""llamaproxy.models.pull: a whole model in its place, or nothing that a scan finds."""

import asyncio
import errno
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from llamaproxy.errors import ChecksumMismatch, Conflict, DiskFull, GatewayError, HubError
from llamaproxy.models.download import Rules
from llamaproxy.models.hub import Hub
from llamaproxy.models.pull import ORIGIN, Progress, Pull
from llamaproxy.models.scan import scan
from llamaproxy.models.staging import STAGING
from tests.gateway import until
from tests.models.fakehub import FakeHub, broken
from tests.models.hubs import QUICK, access, model, selected, sharded


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeHub]:
    """A model in three shards, and one in a file."""
    files = {**sharded(tmp_path), "one-F16.gguf": model(tmp_path)}
    async with FakeHub(files).running() as hub:
        yield hub


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "models"


async def pulled(
    fake: FakeHub, directory: Path, name: str = "tiny", quantisation: str = "Q8_0", rules: Rules = QUICK
) -> Pull:
    async with Hub(access(fake), stall=5.0) as hub:
        one = Pull(hub, await selected(hub, quantisation, name), directory, rules)
        await one.run()
    return one


def listed(directory: Path) -> tuple[list[str], list[str]]:
    found = scan(directory)
    return [model.name for model in found.models], [problem.entry for problem in found.problems]


async def test_three_shards_are_a_model_that_a_scan_finds(fake: FakeHub, directory: Path) -> None:
    one = await pulled(fake, directory)
    assert listed(directory) == (["tiny"], [])
    assert {path.name for path in one.place.iterdir()} == {
        *(path.partition("/")[2] for path in list(fake.files)[:3]),
        ORIGIN,
    }
    assert (one.progress.done, one.progress.total) == (one.selection.size, one.selection.size)
    origin = json.loads((one.place / ORIGIN).read_text())
    assert (origin["repository"], origin["quantisation"]) == ("org/Tiny-GGUF", "Q8_0")
    assert [path.name for path in (directory / STAGING).iterdir()] == ["tiny.lock"]


async def test_a_projector_comes_with_it(fake: FakeHub, directory: Path, tmp_path: Path) -> None:
    fake.files["mmproj-F16.gguf"] = model(tmp_path)
    one = await pulled(fake, directory, quantisation="F16")
    (found,) = scan(directory).models
    assert found.mmproj == one.place / "mmproj-F16.gguf"


async def test_until_all_of_it_is_there_nobody_sees_it(fake: FakeHub, directory: Path) -> None:
    fake.storage = lambda path, _: web.Response(status=500) if "00003-of" in path else None
    with pytest.raises(HubError):
        await pulled(fake, directory)
    assert listed(directory) == ([], [])
    fake.storage, asked = None, len(fake.of("storage"))
    await pulled(fake, directory)
    assert listed(directory) == (["tiny"], [])
    assert len(fake.of("storage")) - asked <= 3


async def test_what_is_whole_is_not_fetched_again(fake: FakeHub, directory: Path) -> None:
    one = await pulled(fake, directory)
    asked = len(fake.of("storage"))
    again = await pulled(fake, directory)
    assert (len(fake.of("storage")), again.place) == (asked, one.place)
    assert again.progress.done == one.selection.size


async def test_another_model_of_the_name_stays(fake: FakeHub, directory: Path) -> None:
    await pulled(fake, directory)
    with pytest.raises(Conflict, match="another name"):
        await pulled(fake, directory, quantisation="F16")
    (directory / "single.gguf").write_bytes(b"")
    with pytest.raises(Conflict):
        await pulled(fake, directory, name="single")
    (directory / "own").mkdir()
    with pytest.raises(Conflict):
        await pulled(fake, directory, name="own")
    assert list((directory / "own").iterdir()) == []


async def test_a_folder_that_says_where_nothing_came_from_is_free(fake: FakeHub, directory: Path) -> None:
    (directory / "tiny").mkdir(parents=True)
    (directory / "tiny" / ORIGIN).write_text("{}")
    await pulled(fake, directory)
    assert listed(directory) == (["tiny"], [])


async def test_a_link_to_such_a_folder_is_not_free(fake: FakeHub, directory: Path) -> None:
    (directory / "elsewhere").mkdir(parents=True)
    (directory / "elsewhere" / ORIGIN).write_text("{}")
    (directory / "tiny").symlink_to(directory / "elsewhere")
    with pytest.raises(Conflict, match="another name"):
        await pulled(fake, directory)


async def test_files_that_changed_in_between_are_fetched_anew(fake: FakeHub, directory: Path) -> None:
    """Some of the first version were whole, one had begun: only what is still the same is kept."""

    gathered = directory / STAGING / "tiny" / "tiny"

    async def third_breaks(path: str, request: web.Request) -> Any:
        if "00003-of" not in path:
            return None
        await until(lambda: len(list(gathered.glob("*.gguf"))) == 2, "the others are whole")
        return await broken(request, fake.files[path], 0, 100, len(fake.files[path]))

    fake.storage = third_breaks
    with pytest.raises(HubError):
        await pulled(fake, directory, rules=Rules(margin=0, tries=1))
    changed = next(path for path in fake.files if "00002-of" in path)
    fake.files[changed] += bytes(32)
    fake.commit, fake.storage = "d" * 40, None
    await pulled(fake, directory)
    name = changed.partition("/")[2]
    assert (
        hashlib.sha256((directory / "tiny" / name).read_bytes()).digest()
        == hashlib.sha256(fake.files[changed]).digest()
    )
    assert not (directory / STAGING / "tiny").exists()


async def test_one_at_a_time(fake: FakeHub, directory: Path) -> None:
    arrived = asyncio.Event()

    async def wait(path: str, request: web.Request) -> web.Response:
        arrived.set()
        await asyncio.sleep(0.3)
        return fake.part(path, request)

    fake.storage = wait
    first = asyncio.get_running_loop().create_task(pulled(fake, directory))
    await arrived.wait()
    with pytest.raises(Conflict, match="already"):
        await pulled(fake, directory)
    await first
    assert listed(directory)[0] == ["tiny"]


async def test_what_others_gave_up_is_removed_and_its_own_is_gone_on_with(fake: FakeHub, directory: Path) -> None:
    for name in ("given-up", "tiny"):
        left = directory / STAGING / name / "x.part"
        left.parent.mkdir(parents=True)
        left.touch()
        os.utime(left, (0, 0))
        os.utime(left.parent, (0, 0))
    fake.storage = lambda path, request: web.Response(status=500)
    with pytest.raises(HubError):
        await pulled(fake, directory)
    assert sorted(path.name for path in (directory / STAGING).iterdir()) == ["given-up.lock", "tiny", "tiny.lock"]


async def test_no_more_streams_than_there_may_be(fake: FakeHub, directory: Path) -> None:
    most = now = 0

    async def count(path: str, request: web.Request) -> web.Response:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1
        return fake.part(path, request)

    fake.storage = count
    async with Hub(access(fake)) as hub:
        await Pull(hub, await selected(hub, "Q8_0"), directory, QUICK, asyncio.Semaphore(2)).run()
    assert most == 2


async def test_a_disk_without_room_is_told_before_anything_is_fetched(fake: FakeHub, directory: Path) -> None:
    with pytest.raises(DiskFull, match="must stay free"):
        await pulled(fake, directory, rules=Rules(margin=2**60))
    assert fake.of("storage") == []


async def test_what_is_no_model_is_not_put_in_its_place(fake: FakeHub, directory: Path) -> None:
    fake.files["one-F16.gguf"] = b"GGUF" + bytes(100)
    with pytest.raises(HubError, match="no model that could be served"):
        await pulled(fake, directory, quantisation="F16")
    assert listed(directory) == ([], [])


async def test_one_wrong_shard_spoils_it(fake: FakeHub, directory: Path) -> None:
    fake.storage = lambda path, _: web.Response(body=bytes(len(fake.files[path]))) if "00002-of" in path else None
    with pytest.raises(ChecksumMismatch):
        await pulled(fake, directory)
    assert listed(directory) == ([], [])


async def test_cancelled_it_goes_on_later(fake: FakeHub, directory: Path) -> None:
    async def hang(path: str, request: web.Request) -> web.StreamResponse:
        if "00002-of" not in path:
            return fake.part(path, request)
        await asyncio.Event().wait()
        raise AssertionError

    fake.storage = hang
    running = asyncio.get_running_loop().create_task(pulled(fake, directory))
    whole = directory / STAGING / "tiny" / "tiny"
    await until(lambda: len(list(whole.glob("*.gguf"))) == 2, "two shards are there")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    fake.storage, asked = None, len(fake.of("storage"))
    await pulled(fake, directory)
    assert len(fake.of("storage")) == asked + 1


async def test_a_directory_that_cannot_be_written(
    fake: FakeHub, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GatewayError, match="cannot be written"):
        await pulled(fake, tmp_path / "made.gguf")
    with pytest.raises(GatewayError, match="cannot be read: File name too long"):
        await pulled(fake, tmp_path / ("x" * 300))

    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("llamaproxy.models.pull.os.rename", refused)
    with pytest.raises(Conflict, match="Read-only"):
        await pulled(fake, directory)


def test_the_speed_is_that_of_late() -> None:
    progress = Progress(1000)
    assert progress.speed() is None
    for second in range(100):
        progress.note("a", 10 * second, float(second))
    progress.note("b", 5, 99.0)
    assert progress.done == 995
    assert progress.speed() == pytest.approx(10, rel=0.1)
