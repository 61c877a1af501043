"""Files are in the page cache before they are needed."""

import asyncio
import ctypes
import mmap
import os
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from llamaproxy.backends import readahead
from llamaproxy.backends.readahead import CHUNK, ReadAhead, read_ahead

SIZE = 4 * 1024**2


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(os.urandom(SIZE))
    return path


def forget(path: Path) -> None:
    """Have the kernel drop the file from its cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached(path: Path) -> float:
    """What part of the file is in the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as mapped:
        pages = -(-len(mapped) // mmap.PAGESIZE)
        vector = (ctypes.c_ubyte * pages)()
        start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        assert libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(len(mapped)), vector) == 0
        return sum(value & 1 for value in vector) / pages


async def until_cached(path: Path) -> None:
    end = time.monotonic() + 10
    while cached(path) < 0.99:
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into the kernel's cache")
async def test_expected_file_is_cached(file: Path) -> None:
    forget(file)
    if cached(file) > 0.5:
        pytest.skip("this file system does not forget")
    ReadAhead().expect([file])
    await until_cached(file)


def test_everything_is_asked_for_in_order(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"x" * 1000)
    assert read_ahead([file, other], threading.Event()) == SIZE + 1000


def test_no_more_than_half_of_the_free_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = type("Memory", (), {"available": SIZE})
    monkeypatch.setattr(psutil, "virtual_memory", memory)
    assert read_ahead([file, file], threading.Event()) == SIZE // 2


def test_file_that_is_gone_is_nobodys_trouble(file: Path, tmp_path: Path) -> None:
    assert read_ahead([tmp_path / "gone", file], threading.Event()) == SIZE


def test_it_can_be_called_off(file: Path) -> None:
    (cancelled := threading.Event()).set()
    assert read_ahead([file], cancelled) == 0
    assert CHUNK < 64 * 1024**2


def test_kernel_without_such_a_hint(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise")
    assert read_ahead([file], threading.Event()) == SIZE


async def test_new_wish_ends_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: asyncio.Queue[tuple[tuple[Path, ...], threading.Event]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def note(files: tuple[Path, ...], cancelled: threading.Event) -> None:
        loop.call_soon_threadsafe(begun.put_nowait, (files, cancelled))

    monkeypatch.setattr(readahead, "read_ahead", note)
    reader = ReadAhead()
    reader.expect([Path("a")])
    reader.expect([Path("a")])
    files, cancelled = await begun.get()
    assert (files, cancelled.is_set()) == ((Path("a"),), False)
    reader.expect([Path("b")])
    assert cancelled.is_set()
    files, cancelled = await begun.get()
    assert (files, begun.empty()) == ((Path("b"),), True)
    reader.cancel()
    assert cancelled.is_set()
