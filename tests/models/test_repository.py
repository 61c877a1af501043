"""llamaproxy.models.repository: what is offered of a repository, and what never is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.errors import InvalidRequest, RepositoryNotFound
from llamaproxy.models.repository import (
    Repository,
    check_model_name,
    check_repository,
    check_revision,
    choose,
    choose_files,
    read_repository,
)
from llamaproxy.values import check_name

COMMIT = "a" * 40


def sibling(path: Any, size: Any = 10, sha256: Any = "0" * 64) -> dict[str, Any]:
    return {"rfilename": path, "lfs": {"size": size, "sha256": sha256}}


def offered(*paths: Any) -> Repository:
    return read_repository("org/r", {"sha": COMMIT, "siblings": [sibling(path) for path in paths]})


def names(repository: Repository) -> list[str]:
    return [each.name for each in repository.quantisations]


class TestQuantisations:
    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("Qwen3-0.6B-Q8_0.gguf", "Q8_0"),
            ("qwen2.5-7b-instruct-q4_k_m.gguf", "Q4_K_M"),
            ("Model-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
            ("Model-IQ2_XXS.gguf", "IQ2_XXS"),
            ("model.BF16.gguf", "BF16"),
            ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
            ("Q6_K/model.gguf", "Q6_K"),
            ("model.gguf", "model"),
        ],
    )
    def test_are_named_as_their_files_tell(self, path: str, name: str) -> None:
        assert names(offered(path)) == [name]

    def test_shards_are_one_in_their_order(self) -> None:
        repository = offered(*(f"Q4_K_M/big-Q4_K_M-0000{n}-of-00003.gguf" for n in (2, 3, 1)))
        (only,) = repository.quantisations
        assert [file.name[-19:-14] for file in only.files] == ["00001", "00002", "00003"]
        assert (only.base, only.size) == ("big-Q4_K_M", 30)

    def test_a_missing_shard_is_told(self) -> None:
        repository = offered("b-00001-of-00003.gguf", "b-00003-of-00003.gguf")
        assert (names(repository), repository.problems) == ([], ("b: 2 of 3 shards are there",))

    def test_those_of_one_kind_keep_their_files_names(self) -> None:
        assert names(offered("a-Q8_0.gguf", "b-Q8_0.gguf", "c-F16.gguf")) == ["F16", "a-Q8_0", "b-Q8_0"]

    def test_the_same_file_in_two_folders_is_told_by_its_path(self) -> None:
        assert names(offered("x/m.gguf", "y/m.gguf")) == ["x/m.gguf", "y/m.gguf"]

    def test_projectors_stand_apart_and_the_best_is_chosen(self) -> None:
        repository = offered("m-Q8_0.gguf", "mmproj-m-BF16.gguf", "mmproj-m-F16.gguf", "imatrix.gguf", "README.md")
        assert names(repository) == ["Q8_0"]
        assert repository.projector and repository.projector.name == "mmproj-m-F16.gguf"


HOSTILE = [
    *("../evil.gguf", "/etc/evil.gguf", "a/../../evil.gguf", "a//b.gguf", "./a.gguf", "..gguf/..", ".hidden.gguf"),
    *("a\\..\\evil.gguf", "evil\0.gguf", "evil\n.gguf", "\x1b[2Jevil.gguf", "a\u202egguf.gguf", "c:evil.gguf"),
    *(
        "x" * 252 + ".gguf",
        "-rf.gguf",
        "a /b.gguf",
        " .gguf",
        "\ud800.gguf",
        "EVIL.GGUF",
        "a?.gguf",
        "d/" * 600 + "a.gguf",
    ),
]


class TestHostileNames:
    @pytest.mark.parametrize("path", HOSTILE, ids=range(len(HOSTILE)))
    def test_are_never_offered(self, path: str) -> None:
        repository = offered(path, "good-Q8_0.gguf")
        assert names(repository) == ["Q8_0"]
        assert all(problem.isprintable() and len(problem) < 400 for problem in repository.problems)

    @given(st.text(max_size=60))
    def test_what_is_offered_is_a_plain_name(self, text: str) -> None:
        for quantisation in offered(f"{text}.gguf").quantisations:
            for file in quantisation.files:
                assert file.name.isprintable()
                assert not {"/", "\\", ":"} & set(file.name)
                assert not file.name.startswith(".")
                assert len(file.name.encode()) <= 255
            check_name(choose(offered(f"{text}.gguf"), quantisation.name, None).name)

    def test_names_that_differ_by_case_do_not_meet_in_one_folder(self) -> None:
        repository = offered("MMPROJ-F16.gguf", "mmproj-f16.gguf")
        with pytest.raises(InvalidRequest, match="the same name"):
            choose(repository, None, None)
        assert choose(repository, None, None, projector=False).name == "MMPROJ-F16"

    @pytest.mark.parametrize("size", [0, -1, 2**60, "10", True, None, 1.5])
    def test_without_a_size_there_is_no_file(self, size: Any) -> None:
        found = read_repository("o/r", {"sha": COMMIT, "siblings": [sibling("m.gguf", size)]})
        assert (names(found), len(found.problems)) == ([], 1)

    @pytest.mark.parametrize("sha256", [None, "0" * 63, "G" * 64, "0" * 64 + "\n", 5])
    def test_nor_without_a_checksum(self, sha256: Any) -> None:
        found = read_repository("o/r", {"sha": COMMIT, "siblings": [sibling("m.gguf", 10, sha256)]})
        assert (names(found), len(found.problems)) == ([], 1)

    @pytest.mark.parametrize("document", [None, [], {}, {"siblings": []}, {"sha": "main", "siblings": []}])
    def test_descriptions_that_are_none(self, document: Any) -> None:
        with pytest.raises(ValueError):
            read_repository("o/r", document)

    def test_entries_of_any_shape_are_passed_over(self) -> None:
        siblings = [
            None,
            5,
            "m.gguf",
            {},
            {"rfilename": 5},
            {"rfilename": "m.gguf"},
            {"rfilename": "m.gguf", "lfs": []},
        ]
        assert names(read_repository("o/r", {"sha": COMMIT, "siblings": siblings})) == []


class TestChoosing:
    def test_by_name_in_any_case(self) -> None:
        repository = offered("m-Q8_0.gguf", "m-Q4_K_M.gguf", "mmproj-F16.gguf")
        chosen = choose(repository, "q8_0", None)
        assert (chosen.name, [file.name for file in chosen.files]) == ("m-Q8_0", ["m-Q8_0.gguf", "mmproj-F16.gguf"])
        assert chosen.size == 20
        assert len(choose(repository, "m-Q8_0", "mine", projector=False).files) == 1

    def test_without_a_word_q4_k_m_or_the_only_one(self) -> None:
        assert choose(offered("m-Q8_0.gguf", "m-Q4_K_M.gguf"), None, None).quantisation == "Q4_K_M"
        assert choose(offered("m-Q8_0.gguf"), None, None).quantisation == "Q8_0"
        with pytest.raises(InvalidRequest, match="Q5_0, Q8_0"):
            choose(offered("m-Q8_0.gguf", "m-Q5_0.gguf"), None, None)

    def test_what_is_not_there(self) -> None:
        with pytest.raises(RepositoryNotFound, match="there are: Q8_0"):
            choose(offered("m-Q8_0.gguf"), "Q2_K", None)
        with pytest.raises(RepositoryNotFound, match=r"no GGUF model: .*small letters"):
            choose(offered("EVIL.GGUF"), None, None)

    def test_by_files(self) -> None:
        repository = offered(
            "m-Q8_0.gguf", "mmproj-F16.gguf", "mmproj-F32.gguf", "b-00001-of-00002.gguf", "b-00002-of-00002.gguf"
        )
        assert len(choose_files(repository, ["m-Q8_0.gguf"], None).files) == 1
        assert len(choose_files(repository, ["m-Q8_0.gguf", "mmproj-F32.gguf"], "x").files) == 2
        for wrong in (
            ["b-00001-of-00002.gguf"],
            ["mmproj-F16.gguf"],
            ["m-Q8_0.gguf", "mmproj-F16.gguf", "mmproj-F32.gguf"],
        ):
            with pytest.raises(InvalidRequest):
                choose_files(repository, wrong, None)
        with pytest.raises(RepositoryNotFound):
            choose_files(repository, ["../evil.gguf"], None)


class TestNames:
    @pytest.mark.parametrize("name", ["o/r", "unsloth/Qwen3-0.6B-GGUF", "a_b/c.d"])
    def test_of_repositories(self, name: str) -> None:
        assert check_repository(name) == name

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "r",
            "o/r/x",
            "../r",
            "o/..",
            "o/a..b",
            "-o/r",
            "o/r?x=1",
            "o/r#",
            "o/%2e",
            "o/r\n",
            "http://h/r",
            "o/" + "r" * 97,
        ],
    )
    def test_that_are_none(self, name: str) -> None:
        with pytest.raises(InvalidRequest):
            check_repository(name)

    @pytest.mark.parametrize("name", ["", "../x", "a/../b", "-x", "a b", "a?b", "x" * 129])
    def test_of_revisions(self, name: str) -> None:
        with pytest.raises(InvalidRequest):
            check_revision(name)
        assert check_revision("refs/pr/1") == "refs/pr/1"

    @pytest.mark.parametrize("name", ["", "a/b", "a:b", ".x", "..", "a.", "a b", "a\0", "x" * 129])
    def test_of_models_that_no_folder_has(self, name: str) -> None:
        with pytest.raises(InvalidRequest):
            check_model_name(name)
