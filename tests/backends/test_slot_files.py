"""llamaproxy.backends.slot_files: what is kept on the disk, for how long, and for whom."""

import os
import shutil
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from llamaproxy.backends.slot_files import SlotFiles, draft_name

DAY = 86_400.0
A, B, C = (f"{letter * 16}-{'0' * 16}" for letter in "abc")


@pytest.fixture
def files(tmp_path: Path) -> SlotFiles:
    return SlotFiles(tmp_path / "kv", limit=1000)


def write(files: SlotFiles, key: str, *sizes: int) -> list[Path]:
    """One save of slots of these sizes, in the order of their ranks."""
    save, folder = files.new_save(key), files.folder(key)
    drafts = [folder / draft_name(save, rank) for rank in range(len(sizes))]
    for draft, size in zip(drafts, sizes, strict=True):
        draft.write_bytes(b"k" * size)
    files.keep(drafts)
    return drafts


def sizes(files: SlotFiles, key: str) -> list[int]:
    return [file.size for file in files.saved(key)]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def age(path: Path) -> None:
    os.utime(path, (time.time() - DAY, time.time() - DAY))


def test_directory_folders_and_files_are_their_owners_alone(files: SlotFiles, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write(files, A, 5)
    finally:
        os.umask(before)
    [saved] = files.saved(A)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "kv", saved.path.parent, saved.path)]
    assert modes == [0o700, 0o700, 0o600]


@pytest.mark.parametrize("obstacle", ["a file", "a link", "a file above"])
def test_a_directory_that_is_not_ours_is_refused(tmp_path: Path, obstacle: str) -> None:
    path = tmp_path / "kv"
    if obstacle == "a link":
        (tmp_path / "elsewhere").mkdir()
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_text("in the way")
    with pytest.raises(OSError, match="kv"):
        SlotFiles(path / "deeper" if obstacle == "a file above" else path, 1000)


def test_a_directory_that_others_may_read_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "kv").mkdir()
    (tmp_path / "kv").chmod(0o755)
    with pytest.raises(PermissionError, match="0700"):
        SlotFiles(tmp_path / "kv", 1000)
    assert stat.S_IMODE((tmp_path / "kv").stat().st_mode) == 0o755


def test_a_folder_that_is_a_link_is_refused(files: SlotFiles, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "kv" / A).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError):
        files.folder(A)


class TestSaves:
    def test_slots_come_back_in_order_of_rank(self, files: SlotFiles) -> None:
        write(files, A, 30, 10, 20)
        assert sizes(files, A) == [30, 10, 20]

    def test_only_those_of_the_newest_save_do(self, files: SlotFiles) -> None:
        write(files, A, 1, 2, 3)
        write(files, A, 4)
        assert sizes(files, A) == [4]

    def test_drafts_do_not(self, files: SlotFiles) -> None:
        (files.folder(A) / draft_name(files.new_save(A), 0)).write_bytes(b"half")
        assert files.saved(A) == []

    def test_each_key_has_its_own(self, files: SlotFiles) -> None:
        write(files, A, 1)
        write(files, B, 2)
        assert (sizes(files, A), sizes(files, B), sizes(files, C)) == ([1], [2], [])

    def test_a_later_save_is_the_newest_even_when_the_clock_was_set_back(
        self, files: SlotFiles, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(files, A, 1)
        monkeypatch.setattr(time, "time_ns", lambda: 1)
        write(files, A, 2)
        assert sizes(files, A) == [2]

    def test_two_gateways_never_write_to_the_same_file(self, files: SlotFiles, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: 1)
        assert files.new_save(A) != files.new_save(A)

    def test_what_is_none_of_ours_is_left_alone(self, files: SlotFiles, tmp_path: Path) -> None:
        mine = [files.folder(A) / "notes.kv", files.folder(A) / "film.part", files.folder("films") / "film.part"]
        for path in mine:
            path.write_text("mine")
            age(path)
        age(files.folder("empty"))
        files.tidy()
        assert files.saved(A) == []
        assert all(path.exists() for path in mine)
        assert (tmp_path / "kv" / "empty").exists()


class TestTidying:
    def test_what_a_newer_save_has_replaced_goes(self, files: SlotFiles, tmp_path: Path) -> None:
        write(files, A, 1, 2, 3)
        write(files, A, 4)
        files.tidy()
        assert len(names(tmp_path)) == 1

    def test_over_all_keys_the_oldest_go_first(self, files: SlotFiles) -> None:
        for key, size in ((A, 400), (B, 400), (C, 400)):
            write(files, key, size)
        files.tidy()
        assert [sizes(files, key) for key in (A, B, C)] == [[], [400], [400]]

    def test_of_one_save_the_slot_used_last_stays_longest(self, files: SlotFiles) -> None:
        write(files, A, 400, 300, 200, 200)
        files.tidy()
        assert sizes(files, A) == [400, 300, 200]

    def test_drafts_of_a_gateway_that_was_killed_go_but_not_those_being_written(
        self, files: SlotFiles, tmp_path: Path
    ) -> None:
        old, new = (files.folder(A) / draft_name(files.new_save(A), 0) for _ in range(2))
        for draft in (old, new):
            draft.write_bytes(b"half")
        age(old)
        files.tidy()
        assert names(tmp_path) == {new.name}

    def test_empty_folders_go_unless_an_engine_may_be_about_to_use_them(self, files: SlotFiles, tmp_path: Path) -> None:
        for key in (A, B):
            files.folder(key)
        age(tmp_path / "kv" / A)
        age(tmp_path / "kv" / B)
        files.folder(B)
        files.tidy()
        assert [path.name for path in (tmp_path / "kv").iterdir()] == [B]


class TestRoom:
    @pytest.mark.parametrize(
        ("total", "free", "expected", "room"),
        [
            (100 * 2**30, 2 * 2**30, 500, True),
            (100 * 2**30, 2**30 + 499, 500, False),
            (100 * 2**30, 2**30 + 500, 500, True),
            (2**30, 100 * 2**20, 500, True),  # of a small disk a twentieth is enough
            (2**30, 50 * 2**20, 500, False),
            (100 * 2**30, 50 * 2**30, 1001, False),  # over the limit by itself
        ],
    )
    def test_some_of_the_disk_is_left_to_others(
        self, files: SlotFiles, monkeypatch: pytest.MonkeyPatch, total: int, free: int, expected: int, room: bool
    ) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=total, free=free))
        assert files.has_room(expected) is room


class TestInVain:
    def test_a_key_that_is_switched_off_loses_its_files_and_stays_so(self, files: SlotFiles, tmp_path: Path) -> None:
        write(files, A, 1, 2)
        assert files.off(A) is None
        files.switch_off(A, "nothing was reused")
        assert files.saved(A) == []
        assert SlotFiles(tmp_path / "kv", 1000).off(A) == "nothing was reused"
        assert files.off(B) is None

    def test_tidying_does_not_forget_it(self, files: SlotFiles, tmp_path: Path) -> None:
        files.switch_off(A, "nothing was reused")
        age(tmp_path / "kv" / A)
        files.tidy()
        assert files.off(A)

    def test_forgetting_does_and_takes_all_keys_of_the_owner(self, files: SlotFiles, tmp_path: Path) -> None:
        files.switch_off(A, "nothing was reused")
        write(files, A.replace("0", "1"), 5)
        write(files, B, 5)
        files.forget(A[:17])
        assert [path.name for path in (tmp_path / "kv").iterdir()] == [B]
