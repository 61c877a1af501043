"""Weighing real processes."""

import asyncio
import mmap
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from llamaproxy.backends.memory import Scale
from llamaproxy.backends.vram import Devices
from llamaproxy.core.footprint import Footprint
from llamaproxy.tasks import spawn

MIB = 1024**2
HEAVY = f"import sys; held = b'x' * (64 * {MIB}); print(len(held), flush=True); sys.stdin.read()"


class TwoDevices(Devices):
    """A family takes a byte of the first for each of its processes."""

    def used(self, pids: set[int]) -> tuple[int, ...]:
        return (len(pids), 0)


@pytest.fixture
def scale() -> Scale:
    return Scale()


@pytest.fixture
def heavy() -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds 64 MiB."""
    with subprocess.Popen([sys.executable, "-c", HEAVY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def test_what_a_process_holds(scale: Scale, heavy: subprocess.Popen[bytes]) -> None:
    footprint = scale.weigh(heavy.pid)
    assert footprint
    assert 64 * MIB < footprint.ram < 100 * MIB
    assert footprint.devices == ()


def test_its_children_are_counted_with_it(heavy: subprocess.Popen[bytes]) -> None:
    footprint = Scale(TwoDevices()).weigh(os.getpid())
    assert footprint
    assert footprint.ram > 64 * MIB
    assert footprint.devices[0] >= 2


def test_without_a_descriptor_to_look_with_nothing_is_known(scale: Scale) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        assert scale.weigh(os.getpid()) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert scale.weigh(os.getpid())


def test_process_that_is_gone_weighs_nothing(scale: Scale, heavy: subprocess.Popen[bytes]) -> None:
    heavy.kill()
    heavy.wait()
    assert scale.weigh(heavy.pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only this kernel tells proportions")
def test_pages_that_two_processes_map_count_half_for_each(scale: Scale, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"x" * (64 * MIB))
    script = (
        f"import mmap, sys; f = open({str(file)!r}, 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ);"
        f"sum(m[i] for i in range(0, len(m), {mmap.PAGESIZE})); print(1, flush=True); sys.stdin.read()"
    )
    pair = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for process in pair:
            assert process.stdout
            process.stdout.readline()
        for process in pair:
            assert (footprint := scale.weigh(process.pid))
            assert 32 * MIB < footprint.ram < 60 * MIB
    finally:
        for process in pair:
            process.kill()
            process.communicate()


def test_where_proportions_are_not_told_the_resident_set_counts(
    scale: Scale, heavy: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(process: psutil.Process) -> None:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "memory_full_info", denied)
    assert (footprint := scale.weigh(heavy.pid))
    assert footprint.ram > 64 * MIB


async def test_it_is_watched_until_it_ends(scale: Scale, heavy: subprocess.Popen[bytes]) -> None:
    reports: asyncio.Queue[Footprint] = asyncio.Queue()
    ended = asyncio.Event()
    watching = spawn(scale.watch(heavy.pid, ended, reports.put_nowait, interval=0.01), name="watch")
    for _ in range(2):
        assert (await asyncio.wait_for(reports.get(), 10)).ram > 64 * MIB
    heavy.kill()
    heavy.wait()
    ended.set()
    await asyncio.wait_for(watching, 10)
