"""llamaproxy.models.footprint: the sizes that an engine was seen to take, and the rules behind them.

The numbers are those of llama.cpp b11434 on a CPU; tests/engine/test_model_files.py asks the engine that is installed.
"""

from pathlib import Path
from typing import Any

import pytest

from llamaproxy.backends.engine import bundled_model
from llamaproxy.models.footprint import PROCESS, UBATCH, estimate_bytes, kv_bytes_per_token
from llamaproxy.models.gguf import GgufInfo, read
from tests.models.ggufs import SHAPES, Types, shards, write

MIB = 1024**2
ATTENTION: dict[str, Any] = {
    "block_count": 8,
    "context_length": 8192,
    "embedding_length": 256,
    "attention__head_count": 4,
    "attention__head_count_kv": 2,
}
LAYER = 2 * 2 * (256 // 4) * 2
"""Bytes of one token in one layer: keys and values of two heads, f16."""


@pytest.fixture
def model(tmp_path: Path) -> Any:
    def model(architecture: str = "llama", **settings: Any) -> GgufInfo:
        return read(write(tmp_path / "model.gguf", architecture, **(ATTENTION | settings)))

    return model


@pytest.fixture(scope="module")
def bundled() -> GgufInfo:
    found = bundled_model()
    if not found:
        pytest.skip("the bundled model is not installed")
    return read(found)


def cache_bytes(info: GgufInfo, ctx: int | None, slots: int | None = None) -> int:
    """The caches alone, in f16: what they grow by in f32."""
    return estimate_bytes([info], ctx, slots, "f32", "f32") - estimate_bytes([info], ctx, slots)


class TestTheBundledModel:
    @pytest.mark.parametrize(
        ("ctx", "slots", "types", "megabytes"),
        [(4096, None, "f16", 90), (4096, 2, "f16", 90), (8192, None, "f16", 180), (4096, None, "q8_0", 47.8125)],
    )
    def test_its_cache(self, bundled: GgufInfo, ctx: int, slots: int | None, types: str, megabytes: float) -> None:
        per_token = kv_bytes_per_token(bundled, types, types)
        assert per_token is not None
        assert per_token * ctx / MIB == megabytes
        if types == "f16":
            assert cache_bytes(bundled, ctx, slots) / MIB == megabytes

    @pytest.mark.parametrize(
        ("ctx", "slots", "types", "kilobytes"),
        [(4096, None, "f16", 222_044), (4096, 2, "f16", 221_740), (4096, None, "q8_0", 179_160)],
    )
    def test_the_memory_of_its_process(
        self, bundled: GgufInfo, ctx: int, slots: int | None, types: str, kilobytes: int
    ) -> None:
        """Resident after the first answer."""
        assert 1.0 < estimate_bytes([bundled], ctx, slots, types, types) / 1024 / kilobytes < 1.15

    @pytest.mark.parametrize(("ctx", "slots", "megabytes"), [(4096, None, 18.64 + 0.75), (4096, 2, 16.64 + 0.38)])
    def test_its_buffers(self, bundled: GgufInfo, ctx: int, slots: int | None, megabytes: float) -> None:
        """For computing, and for its output."""
        rest = bundled.data_end + cache_bytes(bundled, ctx, slots) + PROCESS
        assert 1.0 < (estimate_bytes([bundled], ctx, slots) - rest) / MIB / megabytes < 1.06

    def test_its_own_context_is_taken_without_another(self, bundled: GgufInfo) -> None:
        assert estimate_bytes([bundled]) == estimate_bytes([bundled], 0) == estimate_bytes([bundled], 8192)


class TestPerToken:
    def test_keys_and_values_of_all_layers(self, model: Any) -> None:
        assert kv_bytes_per_token(model()) == 8 * LAYER

    def test_heads_of_each_layer(self, model: Any) -> None:
        info = model("openelm", block_count=3, attention__head_count=[4, 4, 8], attention__head_count_kv=[1, 2, 4])
        assert kv_bytes_per_token(info) == 7 * LAYER // 2

    def test_lengths_that_are_said(self, model: Any) -> None:
        info = model(attention__key_length=192, attention__value_length=128)
        assert kv_bytes_per_token(info) == 8 * 2 * (192 + 128) * 2

    def test_types(self, model: Any) -> None:
        info = model()
        assert kv_bytes_per_token(info, "f32", "f32") == 16 * LAYER
        assert kv_bytes_per_token(info, "q8_0", "q4_0") == 8 * (128 // 32 * 34 + 128 // 32 * 18)
        for wrong in ("F16", "", "x" * 1000):
            with pytest.raises(ValueError, match="is no type of a KV cache") as caught:
                kv_bytes_per_token(info, type_v=wrong)
            assert len(str(caught.value)) < 500

    def test_a_row_is_whole_blocks(self, model: Any) -> None:
        info = model(attention__key_length=20, attention__value_length=20)
        assert kv_bytes_per_token(info, "q8_0", "q8_0") == 8 * 2 * 2 * 34

    @pytest.mark.parametrize("missing", ["block_count", "attention__head_count", "embedding_length"])
    def test_what_is_not_known(self, tmp_path: Path, missing: str) -> None:
        settings = {key: value for key, value in ATTENTION.items() if key != missing}
        if missing == "attention__head_count":
            del settings["attention__head_count_kv"]
        info = read(write(tmp_path / "model.gguf", **settings))
        assert kv_bytes_per_token(info) is None
        assert estimate_bytes([info]) >= info.file_size

    def test_latent_attention_caches_keys_only(self, model: Any) -> None:
        mla = {"attention__key_length_mla": 192, "attention__value_length_mla": 128}
        info = model(
            "deepseek2", attention__head_count_kv=1, attention__key_length=576, attention__value_length=512, **mla
        )
        assert kv_bytes_per_token(info) == 8 * 576 * 2

    def test_layers_for_prediction_do_not_count(self, model: Any) -> None:
        assert kv_bytes_per_token(model("glm4moe", nextn_predict_layers=1)) == 7 * LAYER
        assert kv_bytes_per_token(model("glm4moe", nextn_predict_layers=100)) == 0

    def test_layers_that_share_a_cache(self, model: Any) -> None:
        assert kv_bytes_per_token(model("gemma4", attention__shared_kv_layers=3)) == 5 * LAYER
        long = model("gemma3n", block_count=30, attention__sliding_window=512)
        assert kv_bytes_per_token(long) == 4 * LAYER  # layers 5, 10, 15 and 20 of the first 20

    @pytest.mark.parametrize("architecture", ["bert", "nomic-bert", "gemma-embedding", "dream", "mamba2", "rwkv7"])
    def test_without_a_cache(self, model: Any, architecture: str) -> None:
        assert kv_bytes_per_token(model(architecture)) == 0
        assert cache_bytes(model(architecture), 8192) == 0


class TestSlidingWindows:
    @pytest.mark.parametrize(
        ("architecture", "full"),
        [
            ("gemma2", [2, 4, 6, 8, 10, 12, 14, 16]),
            ("gpt-oss", [2, 4, 6, 8, 10, 12, 14, 16]),
            ("gemma3", [6, 12]),
            ("gemma3n", [5, 10, 15]),
            ("plamo3", [8, 16]),
            *[(name, [4, 8, 12, 16]) for name in "cohere2 llama4 exaone-moe olmo2 afmoe mellum".split()],
            *[(name, [1, 5, 9, 13]) for name in "smallthinker cohere2moe laguna".split()],
            *[(name, list(range(1, 17))) for name in "llama phi3 exaone4".split()],
        ],
    )
    def test_which_layers_attend_to_everything(self, model: Any, architecture: str, full: list[int]) -> None:
        """Of layers with as many heads as their number."""
        heads = {"attention__head_count": [16] * 16, "attention__head_count_kv": list(range(1, 17))}
        lengths = {"attention__key_length": 64, "attention__value_length": 64}
        info = model(architecture, block_count=16, attention__sliding_window=512, **heads, **lengths)
        assert kv_bytes_per_token(info) == sum(full) * LAYER // 2

    def test_the_large_exaone(self, model: Any) -> None:
        info = model("exaone4", block_count=64, attention__sliding_window=4096)
        assert kv_bytes_per_token(info) == 16 * LAYER

    def test_without_a_window_there_is_none(self, model: Any) -> None:
        assert kv_bytes_per_token(model("gemma3")) == 8 * LAYER
        assert kv_bytes_per_token(model("gemma3", attention__sliding_window=0)) == 8 * LAYER
        assert kv_bytes_per_token(model("llama4", attention__sliding_window=0)) == 8 * LAYER

    def test_windows_that_go_without_saying(self, model: Any) -> None:
        assert kv_bytes_per_token(model("gemma2")) == 4 * LAYER
        assert cache_bytes(model("gemma2"), 32768, 1) == (4 * 32768 + 4 * (4096 + 512)) * LAYER
        assert kv_bytes_per_token(model("llama4")) == 2 * LAYER
        assert cache_bytes(model("llama4"), 32768, 1) == (2 * 32768 + 6 * (8192 + 512)) * LAYER
        assert cache_bytes(model("exaone-moe"), 32768, 1) == (2 * 32768 + 6 * 768) * LAYER

    def test_a_pattern_in_the_header(self, model: Any) -> None:
        window = {"attention__sliding_window": 512}
        flags = [True, True, False, True, True, False, True, False]
        assert kv_bytes_per_token(model("gemma3", attention__sliding_window_pattern=flags, **window)) == 3 * LAYER
        assert kv_bytes_per_token(model("gemma3", attention__sliding_window_pattern=2, **window)) == 4 * LAYER
        assert kv_bytes_per_token(model("gemma3", attention__sliding_window_pattern=0, **window)) == 0

    def test_heads_of_another_length(self, model: Any) -> None:
        swa = {"attention__key_length_swa": 32, "attention__value_length_swa": 16, "attention__sliding_window": 512}
        info = model("gemma3", **swa)
        assert cache_bytes(info, 512, 1) == 512 * (1 * LAYER + 7 * 2 * (32 + 16) * 2)

    @pytest.mark.parametrize(("slots", "full", "windowed"), [(None, 1.0, 3.75), (2, 1.0, 3.0)])
    def test_as_the_engine_says(self, model: Any, slots: int | None, full: float, windowed: float) -> None:
        """A gemma3 of 7 layers with two heads of 32: four slots share 2,560 cells of a window's layer, two have 1,024
        each.
        """
        info = model("gemma3", block_count=7, embedding_length=128, attention__sliding_window=512)
        assert cache_bytes(info, 4096, slots) / MIB == full + windowed

    def test_a_short_context_needs_no_more_than_itself(self, model: Any) -> None:
        info = model("gemma3", attention__sliding_window=4096)
        assert cache_bytes(info, 1024, 1) == 1024 * 8 * LAYER


class TestRecurrentModels:
    def test_as_the_engine_says(self, tmp_path: Path) -> None:
        """A mamba of 3 layers: 9,728 bytes each, for every slot, whatever the context."""
        settings: dict[str, Any] = {"block_count": 3, "context_length": 8192, "attention__head_count": 0}
        settings |= {"ssm__conv_kernel": 4, "ssm__inner_size": 128, "ssm__state_size": 16}
        info = read(write(tmp_path / "model.gguf", "mamba", **settings))
        assert kv_bytes_per_token(info) == 0
        assert estimate_bytes([info], 2048, 8) - estimate_bytes([info], 4096, 7) == 3 * 9728
        assert estimate_bytes([info]) == estimate_bytes([info], 100_000, 4)

    def test_groups_are_part_of_the_state(self, tmp_path: Path) -> None:
        settings: dict[str, Any] = {
            "block_count": 3,
            "ssm__conv_kernel": 4,
            "ssm__inner_size": 128,
            "ssm__state_size": 16,
        }
        info = read(write(tmp_path / "model.gguf", "mamba2", ssm__group_count=2, **settings))
        state = 3 * (128 + 2 * 2 * 16) + 128 * 16
        assert estimate_bytes([info], 512, 8) - estimate_bytes([info], 512, 7) == 3 * 4 * state

    def test_layers_without_heads_are_recurrent(self, model: Any) -> None:
        heads = [0, 0, 2, 0, 0, 2, 0, 0]
        info = model(
            "jamba", attention__head_count_kv=heads, ssm__conv_kernel=4, ssm__inner_size=64, ssm__state_size=16
        )
        assert kv_bytes_per_token(info) == 2 * LAYER
        bare = model("jamba", attention__head_count_kv=heads)
        state = 4 * 6 * (3 * 64 + 64 * 16)
        compute = UBATCH * 4 * 3 * 2 * 64
        assert estimate_bytes([info], 512, 5) - estimate_bytes([bare], 512, 5) - compute == pytest.approx(
            5 * state, abs=300
        )

    def test_short_convolutions_and_linear_attention(self, model: Any) -> None:
        heads = {"attention__head_count_kv": [2, 0] * 4}
        bare = model("lfm2", **heads)
        short = model("lfm2", shortconv__l_cache=3, **heads)
        assert estimate_bytes([short], 512, 1) - estimate_bytes([bare], 512, 1) == pytest.approx(
            4 * 4 * 256 * 2, abs=100
        )
        rwkv = model("rwkv7", wkv__head_size=64)
        assert estimate_bytes([rwkv], 512, 1) - estimate_bytes([model("rwkv7")], 512, 1) == pytest.approx(
            4 * 8 * 256 * (2 + 64), abs=100
        )

    def test_every_fourth_layer_attends(self, model: Any) -> None:
        heads = {"attention__head_count": [4] * 8, "attention__head_count_kv": list(range(1, 9))}
        assert kv_bytes_per_token(model("qwen3next", **heads)) == (4 + 8) * LAYER // 2
        assert kv_bytes_per_token(model("qwen3next", full_attention_interval=3, **heads)) == (3 + 6) * LAYER // 2


class TestEstimate:
    def test_all_files_weigh_and_the_first_counts(self, tmp_path: Path) -> None:
        files = [read(path) for path in shards(tmp_path, "big", 3, **ATTENTION)]
        projector = read(write(tmp_path / "mmproj.gguf", "clip", **ATTENTION))
        alone = estimate_bytes(files[:1])
        assert estimate_bytes([*files, projector]) == alone + sum(file.data_end for file in (*files[1:], projector))

    def test_a_file_that_is_not_there_yet_weighs_what_it_will(self, tmp_path: Path) -> None:
        path = write(tmp_path / "model.gguf", tensors=[*SHAPES, ("blk.0", (4096, 64), Types.F32)], **ATTENTION)
        whole = read(path)
        path.write_bytes(path.read_bytes()[:-1000])
        assert estimate_bytes([read(path)]) == estimate_bytes([whole]) > 1 * MIB

    def test_slots_divide_the_context_in_steps(self, model: Any) -> None:
        info = model()
        assert cache_bytes(info, 1000) == 1024 * 8 * LAYER
        assert cache_bytes(info, 1000, 1) == 1024 * 8 * LAYER
        assert cache_bytes(info, 1000, 3) == 3 * 512 * 8 * LAYER
        assert cache_bytes(info, 1, 4) == 4 * 256 * 8 * LAYER

    def test_a_context_that_nobody_says(self, tmp_path: Path) -> None:
        settings = {key: value for key, value in ATTENTION.items() if key != "context_length"}
        info = read(write(tmp_path / "model.gguf", **settings))
        assert cache_bytes(info, None) == 4096 * 8 * LAYER

    def test_experts_and_vocabulary_need_buffers(self, model: Any) -> None:
        dense = model(feed_forward_length=1000)
        experts = model(feed_forward_length=1000, expert_used_count=8, expert_feed_forward_length=500)
        gained = estimate_bytes([experts], 512) - estimate_bytes([dense], 512)
        assert gained == pytest.approx(UBATCH * 4 * 3 * (4000 - 1000), abs=300)
        words = model(feed_forward_length=1000, vocab_size=100_000)
        assert estimate_bytes([words], 512, 4) - estimate_bytes([dense], 512, 4) == pytest.approx(3_200_000, abs=100)

    def test_a_process_is_never_free(self, tmp_path: Path) -> None:
        assert estimate_bytes([read(write(tmp_path / "model.gguf"))]) > PROCESS
