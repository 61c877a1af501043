"""llamaproxy.models.scan: llama-server's folder rules, and a reason for everything that is no model.

tests/engine/test_model_files.py compares with llama-server itself.
"""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamaproxy.models import scan as module
from llamaproxy.models.footprint import estimate_bytes
from llamaproxy.models.scan import Scan, scan
from llamaproxy.values import check_name
from tests.models.ggufs import shards, write


def names(result: Scan) -> list[str]:
    return [model.name for model in result.models]


def reasons(result: Scan) -> dict[str, str]:
    return {problem.entry: problem.reason for problem in result.problems}


class TestModels:
    def test_a_file_is_named_after_itself(self, tmp_path: Path) -> None:
        path = write(tmp_path / "Qwen3-0.6B-Q8_0.gguf", "qwen3", block_count=28)
        result = scan(tmp_path)
        (model,) = result.models
        assert (model.name, model.path, model.files) == ("Qwen3-0.6B-Q8_0", path, (path,))
        assert (model.mmproj, model.draft, model.size) == (None, None, path.stat().st_size)
        assert (model.info.architecture, model.info.layers) == ("qwen3", 28)
        assert not result.problems

    def test_a_folder_is_named_after_itself(self, tmp_path: Path) -> None:
        path = write(tmp_path / "vision" / "weights.gguf", "gemma3")
        mmproj = write(tmp_path / "vision" / "mmproj-F16.gguf", "clip")
        draft = write(tmp_path / "vision" / "mtp-weights.gguf", "gemma3")
        (tmp_path / "vision" / "README.md").write_text("words")
        result = scan(tmp_path)
        (model,) = result.models
        assert (model.name, model.path, model.mmproj, model.draft) == ("vision", path, mmproj, draft)
        assert model.files == (path, mmproj, draft)
        assert model.size == sum(file.stat().st_size for file in model.files)
        assert [info.architecture for info in model.infos] == ["gemma3", "clip", "gemma3"]
        assert not result.problems

    @pytest.mark.parametrize("name", ["mmproj.gguf", "mmproj-x.gguf", "model-mmproj.gguf", "x.mmproj.gguf"])
    def test_a_projector_has_it_anywhere_in_its_name(self, tmp_path: Path, name: str) -> None:
        write(tmp_path / "m" / "a.gguf")
        mmproj = write(tmp_path / "m" / name, "clip")
        assert scan(tmp_path).models[0].mmproj == mmproj

    def test_shards_in_a_folder(self, tmp_path: Path) -> None:
        files = shards(tmp_path / "big", "Big-Q4", 3, block_count=2)
        result = scan(tmp_path)
        (model,) = result.models
        assert (model.name, model.path, model.files) == ("big", files[0], tuple(files))
        assert [info.split_no for info in model.infos] == [0, 1, 2]
        assert model.size == sum(file.stat().st_size for file in files)
        assert estimate_bytes(model.infos) > sum(info.data_end for info in model.infos)
        assert not result.problems

    def test_shards_beside_other_models(self, tmp_path: Path) -> None:
        """Named as llama-server names them, which lists the other shards, too."""
        files = shards(tmp_path, "Big-Q4", 2)
        write(tmp_path / "small.gguf")
        result = scan(tmp_path)
        assert names(result) == ["Big-Q4-00001-of-00002", "small"]
        assert result.models[0].files == tuple(files)

    def test_one_shard_of_one(self, tmp_path: Path) -> None:
        write(tmp_path / "x-00001-of-00001.gguf")
        assert names(scan(tmp_path)) == ["x-00001-of-00001"]

    def test_shards_win_over_a_file_beside_them(self, tmp_path: Path) -> None:
        files = shards(tmp_path / "both", "z", 2)
        write(tmp_path / "both" / "a.gguf")
        result = scan(tmp_path)
        assert result.models[0].path == files[0]
        assert "is not used" in reasons(result)["both/a.gguf"]

    def test_sorted_by_name(self, tmp_path: Path) -> None:
        for name in ("c.gguf", "a.gguf", "b/x.gguf", "B.gguf"):
            write(tmp_path / name)
        assert names(scan(tmp_path)) == ["B", "a", "b", "c"]

    def test_links_are_followed(self, tmp_path: Path) -> None:
        """As in the cache of Hugging Face, whose files are links to blobs."""
        blob = write(tmp_path / "blobs" / "0123abcd")
        models = tmp_path / "models"
        models.mkdir()
        (models / "linked.gguf").symlink_to(blob)
        shards(tmp_path / "real", "s", 2)
        (models / "folder").symlink_to(tmp_path / "real")
        assert names(scan(models)) == ["folder", "linked"]
        assert scan(models).models[1].path == models / "linked.gguf"

    @pytest.mark.parametrize(
        ("entry", "name"),
        [("a.gguf.gguf", "a"), ("a.gguf.v2.gguf", "a.v2"), ("dir.gguf/x.gguf", "dir.gguf"), ("x.Q4_K.gguf", "x.Q4_K")],
    )
    def test_names_that_have_the_ending_within(self, tmp_path: Path, entry: str, name: str) -> None:
        write(tmp_path / entry)
        assert names(scan(tmp_path)) == [name]

    def test_an_empty_directory(self, tmp_path: Path) -> None:
        assert scan(tmp_path) == Scan()


class TestProblems:
    @pytest.mark.parametrize(
        ("entry", "architecture", "reason"),
        [
            (".hidden.gguf", "llama", "is hidden"),
            ("._copied.gguf", "llama", "is hidden"),
            ("LOUD.GGUF", "llama", "small letters"),
            ("mmproj-F16.gguf", "clip", "in a folder with"),
            ("model-mmproj.gguf", "clip", "in a folder with"),
            ("mtp-x.gguf", "llama", "in a folder with"),
            ("projector.gguf", "clip", "no language model but: model clip"),
            ("white space.gguf", "llama", "letters, digits"),
            ("-dash.gguf", "llama", "letters, digits"),
            ("x" * 129 + ".gguf", "llama", "letters, digits"),
            ("größe.gguf", "llama", "letters, digits"),
            ("a/.hidden.gguf", "llama", "is hidden"),
            ("two words/x.gguf", "llama", "letters, digits"),
        ],
    )
    def test_files(self, tmp_path: Path, entry: str, architecture: str, reason: str) -> None:
        write(tmp_path / entry, architecture)
        result = scan(tmp_path)
        assert not result.models
        assert list(reasons(result)) == [entry]
        assert reason in reasons(result)[entry]

    def test_what_is_not_worth_a_word(self, tmp_path: Path) -> None:
        write(tmp_path / ".cache" / "huggingface" / "x.gguf")
        write(tmp_path / ".git" / "x.gguf")
        for name in ("README.md", ".DS_Store", "model.safetensors", "model.gguf.part", "gguf"):
            (tmp_path / name).write_text("words")
        assert scan(tmp_path) == Scan()

    def test_junk(self, tmp_path: Path) -> None:
        (tmp_path / "empty.gguf").touch()
        (tmp_path / "page.gguf").write_text("<html>not found</html>" * 100)
        assert "ends too early" in reasons(scan(tmp_path))["empty.gguf"]
        assert "does not begin with GGUF" in reasons(scan(tmp_path))["page.gguf"]

    def test_a_download_in_progress(self, tmp_path: Path) -> None:
        path = write(tmp_path / "m.gguf")
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        size = len(whole) - 1
        result = scan(tmp_path)
        assert reasons(result) == {"m.gguf": f"is incomplete: {size} of {size + 1} bytes are there"}
        path.write_bytes(whole)
        assert names(scan(tmp_path, result)) == ["m"]

    @pytest.mark.parametrize("entry", ["mmproj.gguf", "mtp-x.gguf", "z-00002-of-00002.gguf"])
    def test_every_file_of_a_model_has_to_be_whole(self, tmp_path: Path, entry: str) -> None:
        shards(tmp_path / "m", "z", 2)
        path = tmp_path / "m" / entry
        path = path if path.exists() else write(path, "clip")
        os.truncate(path, path.stat().st_size - 1)
        result = scan(tmp_path)
        assert not result.models
        assert "is incomplete" in reasons(result)[f"m/{entry}"]

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_a_missing_shard(self, tmp_path: Path, number: int) -> None:
        files = shards(tmp_path / "m", "z", 3)
        files[number - 1].unlink()
        result = scan(tmp_path)
        assert not result.models
        (reason,) = reasons(result).values()
        assert reason == f"shard {number} of 3 is missing"

    def test_shards_that_are_miscounted(self, tmp_path: Path) -> None:
        write(tmp_path / "a-00000-of-00000.gguf")
        write(tmp_path / "b-00001-of-00001.gguf")
        write(tmp_path / "b-00002-of-00001.gguf")
        assert reasons(scan(tmp_path)) == {
            "a-00000-of-00000.gguf": "its shards are miscounted",
            "b-00001-of-00001.gguf": "its shards are miscounted",
        }

    def test_shards_of_something_else(self, tmp_path: Path) -> None:
        files = shards(tmp_path, "z", 3)
        files[1].unlink()
        shutil.copy(files[2], files[1])
        assert reasons(scan(tmp_path)) == {files[1].name: "says that it is shard 3 of 3"}

    def test_a_shard_under_a_simple_name(self, tmp_path: Path) -> None:
        shards(tmp_path / "away", "z", 3)[0].rename(tmp_path / "z.gguf")
        shutil.rmtree(tmp_path / "away")
        assert reasons(scan(tmp_path)) == {"z.gguf": "says that it is shard 1 of 3"}

    def test_a_folder_with_several_models(self, tmp_path: Path) -> None:
        """llama-server takes the one that comes last as the directory happens to be sorted."""
        for name in ("a-Q4.gguf", "a-Q8.gguf"):
            write(tmp_path / "m" / name)
        shards(tmp_path / "n", "x", 2)
        shards(tmp_path / "n", "y", 2)
        assert reasons(scan(tmp_path)) == {
            "m": "holds several models, and no name for each: a-Q4.gguf, a-Q8.gguf",
            "n": "holds several models, and no name for each: x, y",
        }

    def test_a_folder_without_a_model(self, tmp_path: Path) -> None:
        write(tmp_path / "publisher" / "model" / "x.gguf")
        write(tmp_path / "projector" / "mmproj.gguf", "clip")
        (tmp_path / "empty").mkdir()
        reason = "holds no model; folders within it are not searched"
        assert reasons(scan(tmp_path)) == dict.fromkeys(("empty", "projector", "publisher"), reason)

    def test_more_companions_than_one(self, tmp_path: Path) -> None:
        write(tmp_path / "m" / "a.gguf")
        for name in ("mmproj-BF16.gguf", "mmproj-F32.gguf"):
            write(tmp_path / "m" / name, "clip")
        result = scan(tmp_path)
        assert result.models[0].mmproj == tmp_path / "m" / "mmproj-BF16.gguf"
        assert "is not used" in reasons(result)["m/mmproj-F32.gguf"]

    def test_a_name_for_two(self, tmp_path: Path) -> None:
        write(tmp_path / "same.gguf")
        write(tmp_path / "same" / "x.gguf")
        result = scan(tmp_path)
        assert [model.path for model in result.models] == [tmp_path / "same.gguf"]
        assert reasons(result) == {"same/x.gguf": "the name same is already that of same.gguf"}

    @pytest.mark.parametrize("kind", ["adapter", "imatrix", "mmproj"])
    def test_another_kind_of_file(self, tmp_path: Path, kind: str) -> None:
        write(tmp_path / "x.gguf", general__type=kind)
        assert kind in reasons(scan(tmp_path))["x.gguf"]

    def test_a_vocabulary_without_a_model(self, tmp_path: Path) -> None:
        write(tmp_path / "x.gguf", tensors=[])
        assert reasons(scan(tmp_path)) == {"x.gguf": "has no tensors"}

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.gguf")
        (tmp_path / "broken.gguf").symlink_to("nowhere")
        (tmp_path / "loop.gguf").symlink_to("loop.gguf")
        (tmp_path / "folder").symlink_to("folder")
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "broken.gguf").symlink_to("nowhere")
        found = reasons(scan(tmp_path))
        assert found["pipe.gguf"] == "is not a regular file"
        assert "No such file" in found["broken.gguf"]
        assert "No such file" in found["m/broken.gguf"]
        assert found["loop.gguf"].startswith("cannot be reached")
        assert len(found) == 4

    @pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable for root")
    def test_what_may_not_be_read(self, tmp_path: Path) -> None:
        write(tmp_path / "file.gguf").chmod(0)
        write(tmp_path / "folder" / "x.gguf").parent.chmod(0)
        found = reasons(scan(tmp_path))
        (tmp_path / "folder").chmod(0o700)
        assert "Permission denied" in found["file.gguf"]
        assert "Permission denied" in found["folder"]

    def test_a_directory_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for path in (tmp_path / "gone", tmp_path / "file"):
            assert list(reasons(scan(path))) == ["."]
            assert reasons(scan(path))["."].startswith("cannot be listed")

    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        """Bytes that are not UTF-8, and control characters: told so that every terminal and every JSON takes them."""
        good = write(tmp_path / "good" / "x.gguf")
        try:
            good.rename(os.fsdecode(os.fsencode(tmp_path / "good") + b"/\xff.gguf"))
        except OSError:
            pytest.skip("the file system takes UTF-8 only")
        write(tmp_path / "a\n\x1b[31m.gguf")
        found = reasons(scan(tmp_path))
        assert len(found) == 2
        assert "not UTF-8" in found["good/\\udcff.gguf"]
        assert all(entry.isprintable() and entry.encode() for entry in found)

    def test_a_file_that_vanishes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path / "x.gguf")
        listed = module._listed

        def then_gone(*args: object) -> object:
            result = listed(*args)  # type: ignore[arg-type]  # passed on as they come
            path.unlink(missing_ok=True)
            return result

        monkeypatch.setattr(module, "_listed", then_gone)
        assert "No such file" in reasons(scan(tmp_path))["x.gguf"]

    def test_too_much(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MOST_ENTRIES", 20)
        write(tmp_path / "a.gguf")
        for number in range(3):
            write(tmp_path / "m" / f"{number}.gguf")
        assert reasons(scan(tmp_path)) == {"m": "has more than 2 entries"}
        for number in range(19):
            (tmp_path / str(number)).touch()
        assert reasons(scan(tmp_path)) == {".": "has more than 20 entries"}


class TestAgain:
    def test_nothing_is_read_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "a.gguf")
        shards(tmp_path / "b", "x", 2)
        first = scan(tmp_path)
        monkeypatch.setattr(module, "read", None)
        second = scan(tmp_path, first)
        assert second == first
        assert all(one is two for one, two in zip(first.models, second.models, strict=True))

    @pytest.mark.parametrize("changed", ["model.gguf", "mmproj.gguf"])
    def test_what_changed_is(self, tmp_path: Path, changed: str) -> None:
        write(tmp_path / "m" / "model.gguf")
        write(tmp_path / "m" / "mmproj.gguf", "clip")
        first = scan(tmp_path)
        path = tmp_path / "m" / changed
        status = path.stat()
        write(path, "qwen3")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        second = scan(tmp_path, first)
        assert first.models[0].signature != second.models[0].signature
        assert "qwen3" in [info.architecture for info in second.models[0].infos]

    def test_what_came_and_what_went(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.gguf")
        first = scan(tmp_path)
        path.rename(tmp_path / "b.gguf")
        assert names(scan(tmp_path, first)) == ["b"]
        write(tmp_path / "m" / "a.gguf")
        second = scan(tmp_path)
        mmproj = write(tmp_path / "m" / "mmproj.gguf", "clip")
        assert scan(tmp_path, second).models[1].mmproj == mmproj
        mmproj.unlink()
        assert scan(tmp_path, second).models[1].mmproj is None

    def test_nothing_is_changed(self, tmp_path: Path) -> None:
        write(tmp_path / "m" / "a.gguf")
        before = [(path, path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("*"))]
        scan(tmp_path)
        assert [(path, path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("*"))] == before


PARTS = st.sampled_from(["a", "b", "mmproj", "mtp-", "-00001-of-00002", "-00002-of-00002", ".gguf", ".", "A", " "])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(PARTS, PARTS, PARTS, st.booleans()), max_size=8))
def test_any_directory(tmp_path: Path, entries: list[tuple[str, str, str, bool]]) -> None:
    """Whatever lies there: names are allowed and unique, no file is used twice, no entry is passed over in silence."""
    root = tmp_path / "any"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    source = write(tmp_path / "source.gguf")
    for first, second, third, deep in entries:
        path = root / (f"{first}x" if deep else "") / f"{second}{third}.gguf"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(source, path)
    result = scan(root)
    used = [file for model in result.models for file in model.files]
    assert len(used) == len(set(used))
    assert len(set(names(result))) == len(result.models)
    assert all(check_name(name) for name in names(result))
    accounted = {path.relative_to(root).parts[0] for path in used} | {
        problem.entry.split("/")[0] for problem in result.problems
    }
    for entry in root.iterdir():
        if not (entry.is_dir() and entry.name.startswith(".")) and "-of-" not in entry.name:
            assert entry.name in accounted
