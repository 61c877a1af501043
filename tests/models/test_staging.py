"""llamaproxy.models.staging: what pulls gather is one process's at a time, and not there for ever."""

import logging
import os
import time
from pathlib import Path

import pytest

from llamaproxy.errors import Conflict
from llamaproxy.models.staging import KEPT, STAGING, locked, sweep, unfinished


def left(directory: Path, name: str, age: float, size: int = 100) -> Path:
    """A download, nothing of which was written for `age` seconds."""
    part = directory / STAGING / name / f"{name}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(size))
    then = time.time() - age
    os.utime(part, (then, then))
    os.utime(part.parent, (then, then))
    return part.parent


def test_what_lies_there_is_told(tmp_path: Path) -> None:
    assert unfinished(tmp_path) == []
    left(tmp_path, "b", 10, size=7)
    left(tmp_path, "a", KEPT)
    (tmp_path / STAGING / "a.lock").touch()
    (tmp_path / STAGING / "link").symlink_to(tmp_path)
    assert [(found.folder.name, found.size) for found in unfinished(tmp_path)] == [("a", 100), ("b", 7)]


def test_what_nobody_goes_on_with_is_removed_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old, new = left(tmp_path, "old", KEPT + 60), left(tmp_path, "new", KEPT - 60)
    with caplog.at_level(logging.INFO, logger="llamaproxy.models.staging"):
        sweep(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)
    assert f"{old}: nobody went on with it for 7 days; 100 bytes are free again" in caplog.text


def test_one_file_that_is_new_keeps_all_of_it(tmp_path: Path) -> None:
    old = left(tmp_path, "old", KEPT + 60)
    (old / "new.part").touch()
    (old / "old").mkdir()
    for path in (old / "old", old):
        os.utime(path, (0, 0))
    sweep(tmp_path)
    assert old.exists()


def test_what_somebody_pulls_is_left_alone(tmp_path: Path) -> None:
    old = left(tmp_path, "old", KEPT + 60)
    with locked(old):
        sweep(tmp_path)
        assert old.exists()
        with pytest.raises(Conflict, match="old is being pulled already"), locked(old):
            pass
    sweep(tmp_path)
    assert not old.exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.gguf").touch()
    old = left(tmp_path, "old", KEPT + 60)
    (old / "link").symlink_to(tmp_path / "models")
    os.utime(old / "link", (0, 0), follow_symlinks=False)
    os.utime(old, (0, 0))
    sweep(tmp_path)
    assert not old.exists()
    assert (tmp_path / "models" / "m.gguf").exists()


def test_a_directory_that_cannot_be_written_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    old = left(tmp_path, "old", KEPT + 60)
    monkeypatch.setattr("llamaproxy.models.staging.shutil.rmtree", refused)
    sweep(tmp_path)
    assert f"{old} was not finished, and cannot be removed" in caplog.text
