"""llamaproxy.telemetry.journal: what a gateway that is killed has written down, and who takes it over."""

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from llamaproxy.telemetry.journal import SLOT, Journal, left_behind
from llamaproxy.telemetry.ledger import RequestState
from llamaproxy.telemetry.schema import COLUMNS
from tests.telemetry.rows import cells, ended

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is none")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "llamaproxy.db"


@pytest.fixture
def journal(database: Path) -> Iterator[Journal]:
    made = Journal(database)
    made.open()
    yield made
    made.close(everything_written=True)


def found(database: Path) -> list[tuple[Any, ...]]:
    """What is taken over."""
    rows = []
    for left in left_behind(database):
        rows += left.rows()
        left.remove()
    return rows


def kill(journal: Journal) -> None:
    """As the kernel does: the descriptor is closed, and nothing else happens."""
    os.close(journal._fd)
    journal._fd = -1


def file(database: Path) -> Path:
    (path,) = database.parent.glob("*-unwritten-*")
    return path


def test_rows_that_were_marked_come_back(database: Path, journal: Journal) -> None:
    rows = [ended(number, model=f"model {number}") for number in range(5)]
    for row in rows:
        journal.mark(row)
    kill(journal)
    assert found(database) == [cells(row, journal.run) for row in rows]
    assert found(database) == [], "they are taken over once"
    assert not list(database.parent.iterdir())


def test_end_that_nobody_knows_is_a_truncated_answer(database: Path, journal: Journal) -> None:
    journal.mark(ended(1, state=RequestState.IN_FLIGHT, duration_ms=None))
    kill(journal)
    ((row),) = found(database)
    assert dict(zip(COLUMNS, row, strict=True))["state"] == "truncated"


def test_row_is_as_it_was_marked_last(database: Path, journal: Journal) -> None:
    row = ended(1, state=RequestState.IN_FLIGHT)
    journal.mark(row)
    row.state = RequestState.OK
    journal.keep([row])
    row.bytes_out = 99
    journal.keep([row])
    kill(journal)
    row.bytes_out = 0
    assert found(database) == [cells(row, journal.run)], "what is complete is written once"


def test_what_nobody_will_have_does_not_come_back(database: Path, journal: Journal) -> None:
    rows = [ended(number) for number in range(4)]
    for row in rows:
        journal.mark(row)
    for row in rows[:3]:
        journal.forget(row)
    kill(journal)
    assert found(database) == [cells(rows[3], journal.run)]


def test_slot_of_what_the_database_has_is_free_for_another_row(database: Path, journal: Journal) -> None:
    """Writing that it is free would cost every request as much as writing what is in it."""
    first, second = ended(1), ended(2)
    journal.mark(first)
    journal.release([first])
    journal.mark(second)
    kill(journal)
    assert found(database) == [cells(second, journal.run)]


def test_slots_are_used_again(database: Path, journal: Journal) -> None:
    for number in range(1000):
        row = ended(number)
        journal.mark(row)
        journal.release([row])
    assert file(database).stat().st_size <= 2 * SLOT


def test_gateway_that_lives_keeps_its_own(database: Path, journal: Journal) -> None:
    journal.mark(ended(1))
    assert found(database) == []
    assert file(database).exists()


def test_clean_end_leaves_nothing(database: Path, journal: Journal) -> None:
    journal.mark(ended(1))
    journal.close(everything_written=True)
    assert not list(database.parent.iterdir())


def test_end_with_rows_that_could_not_be_written_leaves_them(database: Path, journal: Journal) -> None:
    journal.mark(ended(1))
    journal.close(everything_written=False)
    assert len(found(database)) == 1


def test_columns_of_another_release_are_told_by_their_names(database: Path, journal: Journal) -> None:
    kill(journal)
    named = {"colour": "red", **dict(zip(COLUMNS, cells(ended(1)), strict=True))}
    del named["backend"]
    slots = [orjson.dumps([*named]), orjson.dumps([*named.values()])]
    file(database).write_bytes(b"".join((slot + b"\n").ljust(SLOT) for slot in slots))
    assert found(database) == [cells(ended(1))]


@pytest.mark.parametrize(
    "slot", [b"", b"[1, 2", b"{}", b"null", b"\xff\xfe", b"[[1]]", b"[1]", b"[" * 1000, b"\0" * SLOT, os.urandom(SLOT)]
)
def test_slots_that_make_no_sense_are_passed_over(slot: bytes, database: Path, journal: Journal) -> None:
    journal.mark(ended(1))
    with file(database).open("ab") as stream:
        stream.write(b"\n".ljust(SLOT, b"\0") + slot)
    kill(journal)
    assert [row[1] for row in found(database)] in ([1], [])


@pytest.mark.parametrize("content", [b"", b"\n", b"junk", b"[1]\n"])
def test_file_that_makes_no_sense_has_no_rows(content: bytes, database: Path, journal: Journal) -> None:
    kill(journal)
    file(database).write_bytes(content)
    assert found(database) == []


def test_file_that_cannot_be_read_does_not_keep_others_waiting(
    database: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    journal.mark(ended(1))
    kill(journal)
    file(database).with_name("llamaproxy.db-unwritten-folder").mkdir()
    monkeypatch.setattr("os.pread", broken)
    assert [left.rows() for left in left_behind(database)] == [[]]
    assert "Is a directory" in caplog.text
    assert "Input/output error" in caplog.text


def test_request_hears_nothing_of_a_disk_that_is_full(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.pwrite", full)
    for number in range(3):
        journal.mark(ended(number))
    assert caplog.text.count("No space left") == 1


def test_request_hears_nothing_of_what_no_journal_can_hold(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    journal.mark(ended(1, model="\udcff"))
    assert "memory only" in caplog.text


def test_longest_row_fits_its_slot() -> None:
    row = ended(1, model="m" * 128, key="k" * 128, backend="b" * 128, bytes_out=2**53, prompt_tokens=2**53)
    row.id, row.client, row.endpoint = "i" * 128, "f" * 39, "/v1/audio/transcriptions"
    row.error = "http_version_not_supported"
    assert len(orjson.dumps(cells(row, 2**63 - 1))) < SLOT


def test_nothing_is_written_before_it_is_opened(database: Path) -> None:
    journal = Journal(database)
    row = ended(1)
    journal.mark(row)
    journal.keep([row])
    journal.release([row])
    journal.close(everything_written=True)
    assert row.slot == -1
    assert not list(database.parent.iterdir())


def test_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Journal(tmp_path / "none" / "llamaproxy.db").open()
