"""What the settings of a model mean for memory."""

from pathlib import Path
from typing import Any

import pytest

from llamaproxy.core.footprint import Footprint
from llamaproxy.errors import InvalidModelFile
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.models.estimate import estimate, files
from llamaproxy.models.footprint import PROCESS, estimate_bytes
from llamaproxy.models.gguf import GgufInfo, read
from tests.models.ggufs import shards, write

GIB = 1024**3
SETTINGS: dict[str, Any] = {
    "block_count": 9,
    "context_length": 4096,
    "embedding_length": 64,
    "attention__head_count": 4,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "m.gguf", **SETTINGS)


@pytest.fixture
def info(path: Path) -> GgufInfo:
    return read(path)


def of(path: Path, *arguments: str, budgets: tuple[int, ...] = (), **settings: Any) -> Footprint:
    return estimate(ModelConfig(path=str(path), **settings), arguments, budgets, read)


class TestRam:
    def test_without_devices_all_is_in_ram(self, path: Path, info: GgufInfo) -> None:
        assert of(path) == Footprint(estimate_bytes([info]))

    @pytest.mark.parametrize("words", [("-c", "512"), ("--ctx_size", "512"), ("-c", "9", "--ctx-size", "512")])
    def test_arguments_count_and_the_last_one_wins(self, path: Path, info: GgufInfo, words: tuple[str, ...]) -> None:
        assert of(path, *words).ram == estimate_bytes([info], ctx=512)

    def test_settings_go_before_arguments(self, path: Path, info: GgufInfo) -> None:
        assert of(path, "-c", "512", "-np", "8", ctx_size=1024, parallel=2).ram == estimate_bytes([info], 1024, 2)

    def test_types_of_the_cache(self, path: Path, info: GgufInfo) -> None:
        assert of(path, "-ctk", "q8_0", "-ctv", "q4_0").ram == estimate_bytes([info], None, None, "q8_0", "q4_0")
        with pytest.raises(ValueError, match="q99"):
            of(path, "-ctk", "q99")

    @pytest.mark.parametrize("words", [("-c",), ("-c", "many"), ("-c", "9" * 99), ("stray", "-np", "-c")])
    def test_what_makes_no_sense_counts_for_nothing(self, path: Path, info: GgufInfo, words: tuple[str, ...]) -> None:
        assert of(path, *words).ram == estimate_bytes([info])

    def test_all_files_count(self, tmp_path: Path, path: Path) -> None:
        projector = write(tmp_path / "mmproj.gguf", "clip")
        with_projector = of(path, mmproj=str(projector))
        assert with_projector.ram == estimate_bytes([read(path), read(projector)])
        first, *others = shards(tmp_path, "large", 3, **SETTINGS)
        assert of(first).ram == estimate_bytes([read(file) for file in (first, *others)])

    def test_file_that_is_missing_is_told(self, tmp_path: Path, path: Path) -> None:
        with pytest.raises((OSError, InvalidModelFile)):
            of(path, mmproj=str(tmp_path / "none.gguf"))


class TestFiles:
    def test_shards_and_projector(self, tmp_path: Path) -> None:
        model = ModelConfig(path=str(tmp_path / "m-00001-of-00002.gguf"), mmproj="/p.gguf")
        assert [file.name for file in files(model)] == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "p.gguf"]

    @pytest.mark.parametrize("name", ["m.gguf", "m-00001-of-00001.gguf", "m-00001-of-00000.gguf", "m-1-of-99999.gguf"])
    def test_file_of_its_own(self, name: str) -> None:
        assert files(ModelConfig(path=name)) == [Path(name)]

    def test_no_name_makes_a_list_without_end(self) -> None:
        assert len(files(ModelConfig(path="m-00001-of-99999.gguf"))) == 1


class TestDevices:
    @pytest.mark.parametrize("settings", [{}, {"gpu_layers": -1}, {"gpu_layers": 99}])
    def test_everything_but_the_process_is_on_the_device(self, path: Path, settings: dict[str, Any]) -> None:
        total = of(path).ram
        assert of(path, budgets=(GIB,), **settings) == Footprint(PROCESS, (total - PROCESS,))

    @pytest.mark.parametrize("words", [("-ngl", "5"), ("--gpu-layers", "5")])
    def test_some_layers_of_it(self, path: Path, words: tuple[str, ...]) -> None:
        total = of(path).ram
        half = (total - PROCESS) // 2
        assert of(path, *words, budgets=(GIB,)) == Footprint(total - half, (half,))

    @pytest.mark.parametrize("words", [("-ngl", "0"), ("-dev", "none")])
    def test_none_of_it(self, path: Path, words: tuple[str, ...]) -> None:
        assert sum(of(path, *words, budgets=(GIB,)).devices) == 0
        assert of(path, *words, budgets=(GIB,)).ram == of(path).ram

    def test_what_the_engine_may_choose_it_fits_in(self, path: Path) -> None:
        total = of(path).ram
        assert of(path, budgets=(1000,)) == Footprint(total - 1000, (1000,))
        assert of(path, "-ngl", "all", budgets=(1000,)).devices == (total - PROCESS,), "told so, it does not choose"

    @pytest.mark.parametrize(
        ("words", "shares"),
        [
            ((), (0.75, 0.25)),
            (("-ts", "1,1"), (0.5, 0.5)),
            (("-ts", "1"), (1, 0)),
            (("-ts", "0,2,9"), (0, 1)),
            (("-ts", "x,-1"), (0.75, 0.25)),
            (("-sm", "none"), (1, 0)),
            (("-sm", "none", "-mg", "1"), (0, 1)),
            (("-sm", "none", "-mg", "7"), (0, 1)),
        ],
    )
    def test_several_devices_share_it(self, path: Path, words: tuple[str, ...], shares: tuple[float, ...]) -> None:
        footprint = of(path, *words, budgets=(3 * GIB, GIB))
        whole = of(path).ram - PROCESS
        assert footprint.devices == tuple(int(whole * share) for share in shares)
        assert footprint.ram + sum(footprint.devices) == of(path).ram


def test_other_servers_load_nothing_that_is_known_of() -> None:
    assert files(ModelConfig(url="http://h")) == []
