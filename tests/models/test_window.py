"""llamaproxy.models.window: no length is believed, and nothing is read twice or beyond the bound."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamaproxy.models import window
from llamaproxy.models.window import Fault, opened
from tests.models.ggufs import text

FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
Put = Callable[[bytes], Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def put(data: bytes) -> Path:
        path = tmp_path / "file"
        path.write_bytes(data)
        return path

    return put


def test_numbers_and_texts_in_order(put: Put) -> None:
    with opened(put(struct.pack("<IQ", 7, 2**63) + text("grüße") + b"rest"), 1000) as reader:
        assert reader.size == 12 + 8 + 7 + 4
        assert (reader.u32(), reader.u64(), reader.position) == (7, 2**63, 12)
        assert reader.text(100) == "grüße"
        assert (reader.take(4), reader.position) == (b"rest", reader.size)
        with pytest.raises(Fault, match="ends too early"):
            reader.take(1)


def test_a_text_is_cut_and_the_rest_is_skipped(put: Put) -> None:
    with opened(put(text("abcdef") + b"x"), 1000) as reader:
        assert (reader.text(3), reader.take(1)) == ("abc", b"x")


def test_texts_are_skipped_over_the_edges_of_the_window(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "_CHUNK", 16)
    texts = [bytes(length) for length in (*range(40), 0, 200, 0)]
    data = b"".join(map(text, texts))
    with opened(put(data + b"x"), 10_000) as reader:
        reader.skip_texts(len(texts))
        assert (reader.position, reader.take(1)) == (len(data), b"x")


@FUZZ
@given(lengths=st.lists(st.integers(0, 50), max_size=30), chunk=st.integers(1, 64), cut=st.integers(0, 30))
def test_any_window_skips_alike(put: Put, lengths: list[int], chunk: int, cut: int) -> None:
    data = b"".join(text(bytes(length)) for length in lengths)
    skipped = lengths[:cut]
    with pytest.MonkeyPatch.context() as patch, opened(put(data), 10_000) as reader:
        patch.setattr(window, "_CHUNK", chunk)
        reader.skip_texts(len(skipped))
        assert reader.position == sum(8 + length for length in skipped)
        for length in lengths[cut:]:
            assert len(reader.text(100)) == length


@pytest.mark.parametrize("length", [5, 2**31, 2**62, 2**63, 2**64 - 1])
def test_a_length_beyond_the_file(put: Put, length: int) -> None:
    data = text("ok") + struct.pack("<Q", length) + b"four"
    for count in (2, 3, 2**40):
        with opened(put(data), 1000) as reader, pytest.raises(Fault, match="ends too early"):
            reader.skip_texts(count)
    with opened(put(data), 1000) as reader, pytest.raises(Fault, match="ends too early"):
        reader.skip_texts(1)
        reader.text(2)
    with opened(put(data), 1000) as reader, pytest.raises(Fault, match="ends too early"):
        reader.skip(length + len(data))


def test_the_bound(put: Put) -> None:
    with opened(put(bytes(100)), 10) as reader:
        reader.skip(8)
        assert reader.take(2) == b"\0\0"
        for beyond in (reader.take, reader.skip, reader.skip_texts):
            with pytest.raises(Fault, match="more than 10 bytes"):
                beyond(1)


def test_each_byte_is_read_once(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "_CHUNK", 1000)
    pread = os.pread
    asked: list[tuple[int, int]] = []

    def noted(descriptor: int, count: int, offset: int) -> bytes:
        asked.append((offset, count))
        return pread(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", noted)
    with opened(put(bytes(10_000)), 20_000) as reader:
        for _ in range(500):
            reader.u32()
        reader.skip(5000)
        reader.take(3000)
    assert asked == [(0, 1000), (1000, 1000), (7000, 3000)]


def test_only_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(Fault, match="regular"), opened(path, 10):
            pass
    with pytest.raises(FileNotFoundError), opened(tmp_path / "gone", 10):
        pass
