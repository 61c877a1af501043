"""llamaproxy.server.keyfile: whole at any moment, for nobody else, and never taken for empty when it is broken."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llamaproxy.errors import ConfigError
from llamaproxy.server.keyfile import Stored, StoredKey, change, location, read

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def key(number: int = 1, **rules: object) -> StoredKey:
    return StoredKey.model_validate({"sha256": f"{number:064x}", "created_at": NOW, **rules})


def add(path: Path, name: str, stored: StoredKey) -> Stored:
    return change(path, lambda before: {**before, name: stored})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state" / "keys.json"
    first = key(1, models=["m", "org/n"], rpm=5, tpm=6, concurrency=7, priority=8, expires=NOW, admin=True)
    add(path, "team/a", first)
    assert add(path, "b", key(2)) == read(path) == {"team/a": first, "b": key(2)}


def test_no_file_is_no_keys(tmp_path: Path) -> None:
    assert read(tmp_path / "keys.json") == {}
    (tmp_path / "file").touch()
    assert read(tmp_path / "file" / "keys.json") == {}


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "keys.json"
    before = os.umask(0)
    try:
        add(path, "a", key())
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert (path.parent / "keys.json.lock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"version": 2, "keys": {}}',
        b'{"keys": {"a b": {}}}',
        b'{"keys": {"a": {"sha256": "x"}}}',
        b'{"keys": {"a": {"sha256": "' + b"0" * 64 + b'"}}}',
        b'{"keys": {}, "more": 1}',
    ],
)
def test_a_broken_file_is_told_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"keys\.json"):
        read(path)
    with pytest.raises(ConfigError):
        add(path, "a", key())
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"server\.keys_file"):
        add(tmp_path / "file" / "keys.json", "a", key())


def test_a_change_that_fails_leaves_the_file_and_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    add(path, "a", key())

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        add(path, "b", key(2))
    assert read(path) == {"a": key()}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["keys.json", "keys.json.lock"]


def _add_some(path: Path, prefix: int) -> None:
    for number in range(10):
        add(path, f"k{prefix}-{number}", key(100 * prefix + number + 1))


def test_gateways_that_share_it_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with ThreadPoolExecutor(4) as writers:
        list(writers.map(_add_some, [path] * 4, range(4)))
    assert len(read(path)) == 40


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert location("/data/k.json") == Path("/data/k.json")
    assert location(None, {"STATE_DIRECTORY": "/var/lib/llamaproxy"}) == Path("/var/lib/llamaproxy/keys.json")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert location(None, {}).name == "keys.json"
