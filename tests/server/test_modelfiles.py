"""llamaproxy.server.modelfiles: no file outside the directory is served or deleted, whatever leads there."""

from pathlib import Path
from typing import Any

import pytest

from llamaproxy.config import Config
from llamaproxy.errors import Conflict, InvalidRequest
from llamaproxy.models.pull import ORIGIN
from llamaproxy.server.loaded import Loaded, load
from llamaproxy.server.modelfiles import chosen, deletable, delete
from tests.models.ggufs import shards, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "outside.gguf")
    write(tmp_path / "models" / "m.gguf")
    return tmp_path / "models"


def loaded(root: Path, **models: Any) -> Loaded:
    return load(Config.model_validate({"catalog": {"models_dir": str(root)}, "models": models}))


class TestChosen:
    def test_a_file_and_what_belongs_to_it(self, root: Path) -> None:
        write(root / "v" / "a.gguf")
        write(root / "v" / "mmproj.gguf", "clip")
        assert chosen("m.gguf", loaded(root)) == {"path": str(root / "m.gguf")}
        assert chosen("v/a.gguf", loaded(root)) == {
            **{"path": str(root / "v" / "a.gguf"), "mmproj": str(root / "v" / "mmproj.gguf")},
        }

    def test_links_inside_are_followed_and_no_others(self, root: Path) -> None:
        (root / "in.gguf").symlink_to(root / "m.gguf")
        (root / "out.gguf").symlink_to(root.parent / "outside.gguf")
        (root / "up").symlink_to(root.parent)
        assert chosen("in.gguf", loaded(root)) == {"path": str(root / "in.gguf")}
        for file in ("out.gguf", "up/outside.gguf", "../outside.gguf", str(root.parent / "outside.gguf")):
            with pytest.raises(InvalidRequest):
                chosen(file, loaded(root))

    def test_detours_and_names_that_spoil_a_line(self, root: Path) -> None:
        write(root / "a\nb.gguf")
        write(root / "v" / "a.gguf")
        for file in ("a\nb.gguf", "v/../m.gguf", str(root / "m.gguf")):
            with pytest.raises(InvalidRequest, match="control characters"):
                chosen(file, loaded(root))

    def test_a_directory_that_is_a_link_itself_is_one(self, root: Path) -> None:
        (root.parent / "link").symlink_to(root)
        assert chosen("m.gguf", loaded(root.parent / "link")) == {"path": str(root.parent / "link" / "m.gguf")}

    @pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"junk" + data])
    def test_only_whole_models(self, root: Path, damage: Any) -> None:
        (root / "bad.gguf").write_bytes(damage((root / "m.gguf").read_bytes()))
        with pytest.raises(InvalidRequest, match="file: "):
            chosen("bad.gguf", loaded(root))

    def test_there_must_be_a_directory(self) -> None:
        with pytest.raises(Conflict, match="models_dir"):
            chosen("m.gguf", load(Config()))


class TestDeleting:
    def test_all_shards_and_the_folder(self, root: Path) -> None:
        files = shards(root / "big", "b", 3)
        state = loaded(root)
        paths = deletable(state.catalogue.models["big"], state, [])
        assert sorted(paths) == sorted(files)
        delete(paths, state)
        assert not (root / "big").exists()
        assert root.exists()

    def test_where_a_model_came_from_goes_with_it(self, root: Path) -> None:
        path = write(root / "pulled" / "p.gguf")
        (root / "pulled" / ORIGIN).write_text("{}")
        delete([path], loaded(root))
        assert not (root / "pulled").exists()

    def test_unless_something_else_is_left(self, root: Path) -> None:
        path = write(root / "pulled" / "p.gguf")
        for name in (ORIGIN, "notes.txt"):
            (root / "pulled" / name).write_text("{}")
        delete([path], loaded(root))
        assert {left.name for left in (root / "pulled").iterdir()} == {ORIGIN, "notes.txt"}

    def test_nobody_else_may_use_it(self, root: Path) -> None:
        state = loaded(root, a={"path": str(root / "m.gguf")}, b={"path": str(root / ".." / "models" / "m.gguf")})
        with pytest.raises(Conflict, match="b uses the same file"):
            deletable(state.catalogue.models["a"], state, [])
        alone = loaded(root, a={"path": str(root / "m.gguf")})
        assert deletable(alone.catalogue.models["a"], alone, []) == [root / "m.gguf"]
        with pytest.raises(Conflict, match="m uses the same file"):
            deletable(alone.catalogue.models["a"], alone, ["m"])

    def test_nothing_outside(self, root: Path) -> None:
        (root / "out.gguf").symlink_to(root.parent / "outside.gguf")
        state = loaded(root, a={"path": str(root.parent / "outside.gguf")})
        for name in ("a", "out"):
            with pytest.raises(Conflict, match="inside"):
                deletable(state.catalogue.models[name], state, [])

    def test_what_cannot_be_deleted_is_told(self, root: Path) -> None:
        (root / "folder.gguf").mkdir()
        with pytest.raises(Conflict, match="cannot be deleted"):
            delete([root / "folder.gguf"], loaded(root))
