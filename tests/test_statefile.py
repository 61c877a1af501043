"""llamaproxy.statefile: whole at any moment, for nobody else, one change at a time."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llamaproxy.statefile import locked, replace, state_directory


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_state_path", lambda name: Path("/state") / name)
    assert state_directory({}) == Path("/state/llamaproxy")
    assert state_directory({"STATE_DIRECTORY": "/var/lib/lp:/var/lib/other"}) == Path("/var/lib/lp")


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "x"
    before = os.umask(0)
    try:
        with locked(path):
            replace(path, "content")
    finally:
        os.umask(before)
    assert path.read_text() == "content"
    modes = [entry.stat().st_mode & 0o777 for entry in (path, path.parent, path.with_name("x.lock"))]
    assert modes == [0o600, 0o700, 0o600]


def test_what_cannot_be_written_leaves_what_was(tmp_path: Path) -> None:
    path = tmp_path / "x"
    replace(path, "before")
    with pytest.raises(UnicodeEncodeError):
        replace(path, "\ud800")
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_changes_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "x"
    replace(path, "0")

    def increment() -> None:
        with locked(path):
            replace(path, str(int(path.read_text()) + 1))

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(increment) for _ in range(50)]:
            future.result()
    assert path.read_text() == "50"
