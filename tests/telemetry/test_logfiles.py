"""llamaproxy.telemetry.logfiles: what engines print, in files of bounded size and number, for nobody else."""

import itertools
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaproxy.telemetry import logfiles
from llamaproxy.telemetry.logfiles import FILES, LogFiles, file_name
from llamaproxy.telemetry.redaction import MASK, Redaction
from tests.gateway import until

Make = Callable[..., LogFiles]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[LogFiles] = []

    def making(**settings: Any) -> LogFiles:
        made.append(LogFiles(tmp_path / "logs", Redaction().redact, **settings))
        return made[-1]

    yield making
    for files in made:
        files.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(files: LogFiles) -> list[str]:
    return sorted(path.name for path in files.directory.glob("*"))


def test_lines_have_their_time_in_utc(make: Make) -> None:
    files = make()
    files.put("m", 1_000_000_000.25, "loading")
    files.put("m", 1_000_000_001.0, "loaded")
    files.close()
    assert files.path("m").read_text() == "2001-09-09T01:46:40.250Z loading\n2001-09-09T01:46:41.000Z loaded\n"


def test_files_are_nobody_elses(make: Make, tmp_path: Path) -> None:
    files = make()
    files.put("m", 0, "x")
    files.close()
    assert (mode(files.directory), mode(files.path("m"))) == (0o700, 0o600)
    files.path("m").chmod(0o644)
    again = make()
    again.put("m", 0, "y")
    again.close()
    assert mode(again.path("m")) == 0o600
    assert again.path("m").read_text().count("\n") == 2, "it goes on where it was"


def test_no_secret_and_no_escape_is_written(make: Make) -> None:
    files = make()
    files.put("m", 0, "LLAMA_API_KEY=hunter22 \u202e \x1b[31m \udc80")
    files.close()
    assert files.path("m").read_text().split(" ", 1)[1] == f"LLAMA_API_KEY={MASK} \\u202e \\x1b[31m \\udc80\n"


def test_full_file_makes_room_and_the_last_is_gone(make: Make) -> None:
    files = make(file_bytes=100)
    for number in range(20):
        files.put("m", 0, f"{number:060d}")
    files.close()
    expected = [file_name("m"), *(f"{file_name('m')}.{number}" for number in range(1, FILES))]
    assert names(files) == expected
    kept = [int(files.directory.joinpath(name).read_text().split()[1]) for name in expected]
    assert kept == [19, 18, 17, 16, 15]
    assert max(path.stat().st_size for path in files.directory.iterdir()) <= 100


@pytest.mark.parametrize(
    "model", ["a/b", "a:b", "../../etc/passwd", "A", "a_b", "ä", ".hidden", "a" * 128, "c@+", "con", "x.log"]
)
def test_every_name_is_one_file_in_the_directory(model: str) -> None:
    name = file_name(model)
    assert Path(name).name == name
    assert not name.startswith(".") or model.startswith(".")
    assert len(name.encode()) < 200


def test_no_two_models_share_a_file() -> None:
    models = ["".join(parts) for parts in itertools.product("aA_/:.-1", repeat=3)]
    assert len({file_name(model).lower() for model in models}) == len(models)


def test_models_that_are_no_more_leave_their_files_within_the_bound(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfiles, "MODELS", 3)
    files = make(file_bytes=50)
    files.directory.mkdir()
    others = files.directory / "nginx.log"
    others.write_text("not ours")
    for number in range(6):
        path = files.directory / f"old{number}.engine.log"
        path.write_text("x")
        path.with_name(f"{path.name}.1").write_text("x")
        for each in (path, path.with_name(f"{path.name}.1")):
            os.utime(each, (number, number))
    files.put("new", 0, "x")
    files.close()
    assert {name.partition(".")[0] for name in names(files)} == {"old4", "old5", "new", "nginx"}
    assert "old4.engine.log.1" in names(files)


def test_link_to_somebody_elses_file_is_not_followed(make: Make, tmp_path: Path) -> None:
    files = make()
    files.directory.mkdir()
    target = tmp_path / "precious"
    target.write_text("")
    files.path("m").symlink_to(target)
    files.put("m", 0, "x")
    files.close()
    assert (target.read_text(), files.dropped) == ("", 1)


def test_disk_that_fails_costs_lines_and_is_told_once(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "logs").write_text("in the way")
    files = make()
    for _ in range(3):
        files.put("m", 0, "x")
    files.close()
    assert files.dropped == 3
    assert caplog.text.count("cannot be written") == 1


def test_writing_goes_on_when_it_works_again(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results: Iterator[OSError | int] = iter([OSError(28, "No space left"), 3])
    real = os.write

    def write(fd: int, data: bytes) -> int:
        result = next(results, None)
        if isinstance(result, OSError):
            raise result
        return real(fd, data if result is None else data[:result])

    monkeypatch.setattr(os, "write", write)
    files = make()
    for number in range(3):
        files.put("m", 0, str(number))
    files.close()
    assert files.dropped == 2
    assert files.path("m").read_text().endswith("Z 2\n")


def test_who_prints_never_waits_for_the_disk(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, reached = threading.Event(), threading.Event()

    def write(self: LogFiles, *line: object) -> None:
        reached.set()
        stuck.wait(30)

    monkeypatch.setattr(LogFiles, "_write", write)
    files = make(most=5)
    files.put("m", 0, "x")
    assert reached.wait(30)
    for _ in range(10):
        files.put("m", 0, "x")
    assert files.dropped == 5
    stuck.set()


def test_many_models_do_not_take_a_descriptor_each(make: Make) -> None:
    files = make()
    most = 0
    for number in range(40):
        files.put(f"m{number}", 0, "x")
        most = max(most, len(files._files))
    files.close()
    assert len(names(files)) == 40
    assert most <= 16 + 1


async def test_nobody_who_is_silent_holds_a_file_open(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfiles, "_IDLE", 0.01)
    files = make()
    for number in range(2):
        files.put("m", 0, str(number))
        await until(lambda: names(files) and not files._files, "it is closed")
    files.close()
    assert files.path("m").read_text().count("\n") == 2, "and goes on where it was"
