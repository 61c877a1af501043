"""Headers are read once, and again when their file is another one."""

import os
from pathlib import Path

import pytest

from llamaproxy.errors import InvalidModelFile
from llamaproxy.models.headers import Headers
from tests.models.ggufs import write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "m.gguf", block_count=3)


def test_read_once_for_each_version(path: Path) -> None:
    headers = Headers()
    first = headers.get(path)
    assert first.layers == 3
    assert headers.get(path) is first
    os.utime(path, ns=(1, 1))
    assert headers.get(path) is not first


def test_peeking_reads_nothing(path: Path) -> None:
    headers = Headers()
    assert headers.peek(path) is None
    info = headers.get(path)
    path.unlink()
    assert headers.peek(path) is info


def test_what_cannot_be_read_ahead_is_told_to_who_needs_it(path: Path, tmp_path: Path) -> None:
    headers = Headers()
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"junk")
    headers.read_ahead([tmp_path / "none.gguf", junk, path])
    assert headers.peek(path)
    with pytest.raises(InvalidModelFile):
        headers.get(junk)
    with pytest.raises(FileNotFoundError):
        headers.get(tmp_path / "none.gguf")


def test_files_of_no_model_are_forgotten(path: Path, tmp_path: Path) -> None:
    headers = Headers()
    other = write(tmp_path / "other.gguf")
    headers.read_ahead([path, other])
    headers.keep([other])
    assert (headers.peek(path), headers.peek(other) is None) == (None, False)
