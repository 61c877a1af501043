"""llamaproxy.models.gguf: what stands in a header is found, and nothing in it is believed."""

import contextlib
import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamaproxy.backends.engine import bundled_model
from llamaproxy.errors import InvalidModelFile, ModelStartFailed
from llamaproxy.models import footprint
from llamaproxy.models.gguf import MAX_HEADER, MAX_KEYS, MAX_LAYERS, MAX_TENSORS, TENSOR_TYPES, GgufInfo, read
from tests.models.ggufs import SHAPES, Types, header, padded, pair, shards, tensor, text, write

U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10
FILE = Path("model.gguf")
PLAIN: dict[str, Any] = {
    "general__name": "Small",
    "general__file_type": 15,
    "block_count": 3,
    "context_length": 128,
    "embedding_length": 64,
    "attention__head_count": 4,
    "attention__head_count_kv": 2,
}


def u32(key: str, value: int) -> bytes:
    return pair(key, U32, struct.pack("<I", value))


@pytest.fixture
def put(tmp_path: Path) -> Callable[[bytes], Path]:
    def put(data: bytes) -> Path:
        path = tmp_path / FILE
        path.write_bytes(data)
        return path

    return put


@pytest.fixture(scope="module")
def bundled() -> Path:
    found = bundled_model()
    if not found:
        pytest.skip("the bundled model is not installed")
    return found


def refused(path: Path) -> str:
    with pytest.raises(InvalidModelFile) as caught:
        read(path)
    assert caught.value.detail == str(path)
    assert caught.value.message.isprintable()
    return caught.value.message


class Oracle:
    """The same file, as the package of llama.cpp's authors reads it."""

    def __init__(self, path: Path) -> None:
        self._reader = gguf.GGUFReader(path)
        self.size = path.stat().st_size

    def __call__(self, key: str) -> Any:
        field = self._reader.get_field(key.replace("ARCH", self.architecture))
        return field.contents() if field else None

    @property
    def architecture(self) -> str:
        field = self._reader.get_field("general.architecture")
        assert field
        return str(field.contents())

    @property
    def parameters(self) -> int:
        return sum(int(tensor.n_elements) for tensor in self._reader.tensors)

    @property
    def tensor_bytes(self) -> int:
        return sum(int(tensor.n_bytes) for tensor in self._reader.tensors)

    @property
    def data_end(self) -> int:
        return max(int(tensor.data_offset) + int(tensor.n_bytes) for tensor in self._reader.tensors)


def check(info: GgufInfo, oracle: Oracle) -> None:
    layers = oracle("ARCH.block_count")
    heads, kv_heads = oracle("ARCH.attention.head_count"), oracle("ARCH.attention.head_count_kv")
    assert info.architecture == oracle.architecture
    assert info.name == oracle("general.name")
    assert (info.parameters, info.tensor_bytes, info.data_end) == (
        oracle.parameters,
        oracle.tensor_bytes,
        oracle.data_end,
    )
    assert (info.file_size, info.complete) == (oracle.size, True)
    assert info.layers == layers
    assert info.context_length == oracle("ARCH.context_length")
    assert info.embedding_length == oracle("ARCH.embedding_length")
    assert list(info.heads) == (heads if isinstance(heads, list) else [heads] * layers)
    assert list(info.kv_heads) == (kv_heads if isinstance(kv_heads, list) else [kv_heads] * layers)
    assert info.sliding_window == oracle("ARCH.attention.sliding_window")
    assert info.chat_template == (oracle("tokenizer.chat_template") is not None)
    file_type = oracle("general.file_type")
    assert info.quantisation == (
        None if file_type is None else gguf.LlamaFileType(file_type).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    )


class TestTheBundledModel:
    def test_against_the_oracle(self, bundled: Path) -> None:
        info, oracle = read(bundled), Oracle(bundled)
        check(info, oracle)
        assert info.vocabulary == len(oracle("tokenizer.ggml.tokens"))
        assert (
            info.key_length
            == info.value_length
            == oracle("ARCH.embedding_length") // oracle("ARCH.attention.head_count")
        )

    def test_in_words(self, bundled: Path) -> None:
        info = read(bundled)
        assert (info.kind, info.architecture, info.quantisation) == ("model", "llama", "Q4_1")
        assert (info.parameters, info.layers, info.context_length) == (134_515_008, 30, 8192)
        assert (info.heads, info.kv_heads, info.key_length) == ((9,) * 30, (3,) * 30, 64)
        assert (info.vocabulary, info.pooling, info.embedding, info.chat_template) == (49_152, None, False, True)
        assert (info.split_no, info.split_count, info.sliding_window) == (0, 1, None)

    def test_without_its_data(self, bundled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """98,000 texts of vocabulary stand in the header, which is 1.8 MB of the file's 98 MB."""
        taken: list[int] = []
        pread = os.pread

        def counted(descriptor: int, count: int, offset: int) -> bytes:
            data = pread(descriptor, count, offset)
            taken.append(len(data))
            return data

        monkeypatch.setattr(os, "pread", counted)
        info = read(bundled)
        assert 0 < sum(taken) < 4 * 1024**2 < info.file_size

    def test_fast(self, bundled: Path) -> None:
        spent = []
        for _ in range(3):
            begun = time.process_time()
            read(bundled)
            spent.append(time.process_time() - begun)
        assert min(spent) < 0.05

    def test_one_that_broke_off(self, bundled: Path, tmp_path: Path) -> None:
        """Noticed from the header: a byte less, and it is incomplete."""
        size = bundled.stat().st_size
        cut = tmp_path / "cut.gguf"
        with bundled.open("rb") as whole:
            cut.write_bytes(whole.read(4 * 1024**2))
        os.truncate(cut, size)
        assert read(cut) == read(bundled)
        os.truncate(cut, size - 1)
        assert not read(cut).complete
        assert read(cut).data_end == size


class TestWrittenModels:
    @pytest.mark.parametrize(
        ("architecture", "kind", "more"),
        [
            ("llama", Types.Q4_0, {}),
            ("qwen3", Types.Q8_0, {"attention__key_length": 128, "attention__value_length": 128}),
            ("gemma3", Types.BF16, {"attention__sliding_window": 512, "tokenizer__chat_template": "{{ x }}"}),
            ("openelm", Types.Q6_K, {"attention__head_count": [4, 8, 8], "attention__head_count_kv": [1, 2, 4]}),
            ("bert", Types.F16, {"pooling_type": 1}),
            ("mamba", Types.IQ4_XS, {"attention__head_count": 0, "attention__head_count_kv": 0}),
        ],
    )
    def test_against_the_oracle(self, tmp_path: Path, architecture: str, kind: Types, more: dict[str, Any]) -> None:
        tensors = [*SHAPES, ("blk.0.attn_q.weight", (3, 512), kind), ("blk.1.bias", (7,), Types.F32)]
        path = write(tmp_path / FILE, architecture, tensors, **(PLAIN | more))
        check(read(path), Oracle(path))

    @pytest.mark.parametrize("kind", [kind for kind in Types if kind.name not in ("Q8_1", "Q8_K")])
    def test_every_type_of_tensor(self, tmp_path: Path, kind: Types) -> None:
        """But for two that stand in no file, and of which the package counts one as it was."""
        path = write(tmp_path / FILE, tensors=[("a", (3, 2, 512), kind), ("b", (256,), kind)])
        info, oracle = read(path), Oracle(path)
        assert (info.parameters, info.tensor_bytes, info.data_end) == (
            oracle.parameters,
            oracle.tensor_bytes,
            oracle.data_end,
        )
        assert TENSOR_TYPES[int(kind)][0] == kind.name

    @pytest.mark.parametrize("kind", [kind for kind in gguf.LlamaFileType if kind.name != "GUESSED"])
    def test_every_type_of_file(self, tmp_path: Path, kind: gguf.LlamaFileType) -> None:
        name = kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")
        assert read(write(tmp_path / FILE, general__file_type=int(kind))).quantisation == name
        assert read(write(tmp_path / FILE, general__file_type=int(kind) | 1024)).quantisation == name

    def test_one_that_is_not_known(self, tmp_path: Path) -> None:
        assert read(write(tmp_path / FILE, general__file_type=999)).quantisation is None
        assert read(write(tmp_path / FILE)).quantisation is None

    def test_shards(self, tmp_path: Path) -> None:
        infos = [read(path) for path in shards(tmp_path, "big", 3, **PLAIN)]
        assert [(info.split_no, info.split_count) for info in infos] == [(0, 3), (1, 3), (2, 3)]
        assert [info.layers for info in infos] == [3, None, None]
        assert sum(info.parameters for info in infos) == 3 * 32 * 64

    @pytest.mark.parametrize(
        ("number", "name", "embedding"),
        [
            (0, "none", False),
            (1, "mean", True),
            (2, "cls", True),
            (3, "last", True),
            (4, "rank", False),
            (9, None, False),
        ],
    )
    def test_pooling(self, tmp_path: Path, number: int, name: str | None, embedding: bool) -> None:
        info = read(write(tmp_path / FILE, "qwen3", pooling_type=number))
        assert (info.pooling, info.embedding) == (name, embedding)

    def test_an_encoder_embeds_without_saying_so(self, tmp_path: Path) -> None:
        assert read(write(tmp_path / FILE, "bert")).embedding
        assert not read(write(tmp_path / FILE, "bert", pooling_type=4)).embedding

    def test_what_is_not_said(self, tmp_path: Path) -> None:
        info = read(write(tmp_path / FILE))
        assert (info.layers, info.context_length, info.embedding_length, info.vocabulary) == (None,) * 4
        assert (info.heads, info.kv_heads, info.key_length, info.value_length) == ((), (), None, None)
        assert (info.name, info.kind, info.chat_template) == (None, "model", False)

    def test_without_kv_heads_there_are_as_many_as_heads(self, tmp_path: Path) -> None:
        info = read(write(tmp_path / FILE, block_count=2, attention__head_count=[4, 8], embedding_length=64))
        assert (info.heads, info.kv_heads, info.key_length, info.value_length) == ((4, 8), (4, 8), 16, 16)

    def test_the_vocabulary_is_counted_or_said(self, tmp_path: Path) -> None:
        assert read(write(tmp_path / FILE, tokenizer__ggml__tokens=["a", "b", "ccc"])).vocabulary == 3
        assert read(write(tmp_path / FILE, tokenizer__ggml__tokens=["a"], vocab_size=7)).vocabulary == 7

    def test_numbers_of_the_architecture(self, tmp_path: Path) -> None:
        more: dict[str, Any] = {"general__block_count": 7, "tokenizer__ggml__model": "gpt2", "rope__type": "linear"}
        info = read(
            write(tmp_path / FILE, rope__freq_base=10000.0, attention__causal=False, pattern=[True, False], **more)
        )
        assert dict(info.settings) == {"rope.freq_base": 10000.0, "attention.causal": False, "pattern": (True, False)}
        assert info.layers is None
        hash(info)

    def test_a_key_without_the_architecture_is_none_of_its_numbers(self, put: Callable[[bytes], Path]) -> None:
        info = read(put(header([pair("general.architecture", STRING, text("llama")), u32("block_count", 7)])))
        assert (info.layers, dict(info.settings)) == (None, {})

    def test_another_kind_of_file(self, tmp_path: Path) -> None:
        assert read(write(tmp_path / FILE, "clip", general__type="mmproj")).kind == "mmproj"

    def test_alignment(self, tmp_path: Path) -> None:
        path = tmp_path / FILE
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_custom_alignment(256)
        for name in ("a", "b"):
            writer.add_tensor(name, numpy.zeros(5, dtype=numpy.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        assert read(path).data_end == Oracle(path).data_end
        assert read(path).data_end % 256 == 20

    def test_no_alignment(self, put: Callable[[bytes], Path]) -> None:
        data = header([u32("general.alignment", 1)], [tensor("a", [5], 24, 0), tensor("b", [8], 0, 5)])
        assert read(put(data)).data_end == len(data) + 5 + 32


class TestValuesOfTheWrongType:
    """A header may say what it likes: what is no sensible number is as if it were not there."""

    @pytest.mark.parametrize("value", [-1, 1.5, True, "many", [3]])
    def test_layers(self, tmp_path: Path, value: object) -> None:
        info = read(write(tmp_path / FILE, **{**PLAIN, "block_count": value}))
        assert (info.layers, info.heads, info.kv_heads) == (None, (), ())

    @pytest.mark.parametrize("value", [-1, 1.5, True, "many", [1, 2], [1, -2, 3], [True, True, True]])
    def test_heads(self, tmp_path: Path, value: object) -> None:
        info = read(write(tmp_path / FILE, **{**PLAIN, "attention__head_count": value}))
        assert (info.heads, info.key_length) == ((), None)
        assert info.kv_heads == (2, 2, 2)

    def test_a_number_that_no_reader_of_json_takes(self, put: Callable[[bytes], Path]) -> None:
        arch = pair("general.architecture", STRING, text("llama"))
        for value, found in ((2**53, 2**53), (2**53 + 1, None)):
            told = pair("llama.context_length", U64, struct.pack("<Q", value))
            assert read(put(header([arch, told]))).context_length == found

    def test_too_many_layers_for_a_list(self, tmp_path: Path) -> None:
        assert read(write(tmp_path / FILE, **{**PLAIN, "block_count": MAX_LAYERS})).heads == (4,) * MAX_LAYERS
        assert read(write(tmp_path / FILE, **{**PLAIN, "block_count": MAX_LAYERS + 1})).heads == ()
        assert read(write(tmp_path / FILE, **{**PLAIN, "block_count": 2**32 - 1})).heads == ()

    def test_names(self, put: Callable[[bytes], Path]) -> None:
        keys = [pair("general.architecture", U32, b"\1\0\0\0"), pair("general.name", STRING, text(b"\xff\xfe"))]
        info = read(put(header(keys)))
        assert (info.architecture, info.name) == ("", "\ufffd\ufffd")

    def test_a_long_text_is_cut(self, put: Callable[[bytes], Path]) -> None:
        keys = [pair("general.name", STRING, text("x" * 3_000_000)), u32("general.file_type", 2)]
        info = read(put(header(keys)))
        assert info.name is not None and set(info.name) == {"x"}
        assert len(info.name) <= 1024
        assert info.quantisation == "Q4_0"


class TestRefused:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "ends too early"),
            (b"GGU", "ends too early"),
            (b"GGUF", "ends too early"),
            (b"PK\3\4" + b"\0" * 100, "does not begin with GGUF"),
            (header(magic=b"FUGG"), "does not begin with GGUF"),
            (header(version=0x03000000), "big-endian"),
            (header(version=0), "big-endian"),
            (header(version=1), "version 1"),
            (header(version=4), "version 4"),
            (header(counts={"pairs": 1}), "ends too early"),
            (header(counts={"tensors": 1}), "ends too early"),
            (header(counts={"pairs": MAX_KEYS + 1}), "too many"),
            (header(counts={"tensors": MAX_TENSORS + 1}), "too many"),
            (header(counts={"tensors": 2**64 - 1, "pairs": 2**64 - 1}), "too many"),
            (header([u32("a", 1), u32("a", 2)]), "twice"),
            (header([u32("", 1)]), "empty"),
            (header([pair("a", 13, b"")]), "unknown type 13"),
            (header([pair("a", ARRAY, struct.pack("<IQ", 99, 0))]), "unknown type 99"),
            (header([pair("a", ARRAY, struct.pack("<IQ", ARRAY, 1) + struct.pack("<IQ", U32, 0))]), "array within"),
            (header([pair("a", ARRAY, struct.pack("<IQ", U32, 2**62))]), "ends too early"),
            (header([pair("a", ARRAY, struct.pack("<IQ", STRING, 2**62))]), "ends too early"),
            (header([pair("a", ARRAY, struct.pack("<IQ", STRING, 2) + text("x"))]), "ends too early"),
            (header([pair("a", STRING, struct.pack("<Q", 2**64 - 1))]), "ends too early"),
            (header([u32("general.alignment", 0)]), "power of two"),
            (header([u32("general.alignment", 48)]), "power of two"),
            (header([pair("general.alignment", STRING, text("32"))]), "power of two"),
            (header([pair("general.alignment", BOOL, b"\1")]), "power of two"),
            (header(tensors=[tensor("a", [1] * 5, 0, 0)]), "5 dimensions"),
            (header(tensors=[tensor("a", [2**32, 2**32], 0, 0)]), "impossible shape"),
            (header(tensors=[tensor("a", [33], 2, 0)]), "impossible shape"),
            (header(tensors=[tensor("a", [], 2, 0)]), "impossible shape"),
            (header(tensors=[tensor("a", [8], 0, 32)]), "follow upon each other"),
            (header(tensors=[tensor("a", [8], 0, 0), tensor("b", [8], 0, 0)]), "follow upon each other"),
            (header(tensors=[tensor("a", [8], 0, 0), tensor("b", [8], 0, 64)]), "follow upon each other"),
            (header(tensors=[tensor("a", [2**53], 0, 0)]), "impossibly large"),
        ],
    )
    def test_with_a_reason(self, put: Callable[[bytes], Path], data: bytes, reason: str) -> None:
        assert reason in refused(put(data))

    def test_what_is_just_allowed(self, put: Callable[[bytes], Path]) -> None:
        """So that the cases above are refused for what they say and for nothing else."""
        tensors = [tensor("a", [9], 0, 0), tensor("b", [32, 2, 1, 1], 2, 64), tensor("c", [], 0, 128)]
        keys = [
            u32("general.alignment", 64),
            pair("a", ARRAY, struct.pack("<IQ", STRING, 2) + text("x") + text("")),
            pair("b", ARRAY, struct.pack("<IQ", U32, 0)),
        ]
        for version in (2, 3):
            info = read(put(header(keys, tensors, version=version)))
            assert (info.parameters, info.tensor_bytes, info.complete) == (9 + 64 + 1, 36 + 36 + 4, False)
            assert info.data_end == len(padded(header(keys, tensors), 64)) + 128 + 4

    def test_without_tensors_nothing_is_missing(self, put: Callable[[bytes], Path]) -> None:
        info = read(put(header()))
        assert (info.data_end, info.complete, info.parameters) == (24, True, 0)

    def test_a_type_of_a_newer_engine(self, put: Callable[[bytes], Path]) -> None:
        """Its size is not known, so the place of what follows cannot be checked."""
        info = read(put(header(tensors=[tensor("a", [7], 77, 0), tensor("b", [8], 0, 96)])))
        assert (info.parameters, info.tensor_bytes) == (15, 32)
        assert (
            info.data_end == len(padded(header(tensors=[tensor("a", [7], 77, 0), tensor("b", [8], 0, 96)]))) + 96 + 32
        )

    def test_one_class_of_error(self) -> None:
        assert issubclass(InvalidModelFile, ModelStartFailed)
        assert (InvalidModelFile.status, InvalidModelFile.code) == (503, "model_start_failed")

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        assert "No such file" in refused(tmp_path / "gone.gguf")
        assert "not a regular file" in refused(tmp_path)
        assert "null byte" in refused(tmp_path / "a\0b")
        os.mkfifo(tmp_path / "pipe")
        assert "not a regular file" in refused(tmp_path / "pipe")
        (tmp_path / "loop").symlink_to("loop")
        assert "cannot be read" in refused(tmp_path / "loop")

    def test_no_descriptor_is_left_open(self, put: Callable[[bytes], Path]) -> None:
        before = len(os.listdir("/dev/fd"))
        for data in (b"", header(), header(version=9)):
            path = put(data)
            with contextlib.suppress(InvalidModelFile):
                read(path)
        assert len(os.listdir("/dev/fd")) == before

    def test_the_message_names_the_file_and_not_its_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "b\x1b\nd.gguf"
        path.write_bytes(b"junk, and more than that")
        message = refused(path)
        assert "d.gguf" in message
        assert str(tmp_path) not in message


class TestBounds:
    def test_a_header_that_is_too_long(self, put: Callable[[bytes], Path], tmp_path: Path) -> None:
        path = put(header([pair("a", STRING, struct.pack("<Q", MAX_HEADER))]))
        os.truncate(path, 2 * MAX_HEADER)
        assert "more than" in refused(path)

    SPARSE = pytest.mark.parametrize(
        "data",
        [
            header([pair("a", STRING, struct.pack("<Q", 2**40))]),
            header([pair("a", ARRAY, struct.pack("<IQ", U32, 2**40))]),
            header([pair("a", ARRAY, struct.pack("<IQ", STRING, 2**40))]),
            header([pair("a", ARRAY, struct.pack("<IQ", STRING, 2**19))]),
            header([struct.pack("<Q", 2**40)]),
            header(counts={"tensors": MAX_TENSORS}),
            header(counts={"pairs": MAX_KEYS}),
        ],
    )
    """Zeros without end follow, which may be short texts, or as many tensors as are claimed."""

    @SPARSE
    def test_memory(self, put: Callable[[bytes], Path], data: bytes) -> None:
        path = put(data)
        os.truncate(path, 1024**4)
        tracemalloc.start()
        try:
            with contextlib.suppress(InvalidModelFile):
                read(path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 16 * 1024**2

    @SPARSE
    def test_time(self, put: Callable[[bytes], Path], data: bytes) -> None:
        path = put(data)
        os.truncate(path, 1024**4)
        begun = time.process_time()
        with contextlib.suppress(InvalidModelFile):
            read(path)
        assert time.process_time() - begun < 2

    def test_a_file_that_shrinks_while_it_is_read(
        self, put: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = put(header([pair("a", STRING, text("x" * 3_000_000)), u32("b", 1)]))
        pread = os.pread
        calls: list[tuple[int, ...]] = []

        def shrink(*args: int) -> bytes:
            if calls:
                os.truncate(path, 1000)
            calls.append(args)
            return pread(*args)

        monkeypatch.setattr(os, "pread", shrink)
        assert "became shorter" in refused(path)


SAMPLE = header(
    [
        pair("general.architecture", STRING, text("gemma3")),
        u32("gemma3.block_count", 7),
        u32("gemma3.embedding_length", 64),
        u32("gemma3.attention.head_count", 4),
        u32("gemma3.attention.sliding_window", 512),
        pair("gemma3.attention.head_count_kv", ARRAY, struct.pack("<IQ7I", U32, 7, *range(1, 8))),
        pair("tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", STRING, 3) + text("a") + text("bc") + text("")),
        pair("tokenizer.ggml.scores", ARRAY, struct.pack("<IQ3f", F32, 3, 1, 2, 3)),
        pair("gemma3.rope.freq_base", F32, struct.pack("<f", 10000)),
        pair("tokenizer.chat_template", STRING, text("{{ x }}")),
    ],
    [tensor("token_embd.weight", [64, 32], 0, 0), tensor("output.weight", [64, 32], 2, 8192)],
)
FUZZ = settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])


def survives(path: Path) -> None:
    """A result that can be worked with, or the one error."""
    try:
        info = read(path)
    except InvalidModelFile:
        return
    assert info.data_end >= 0
    assert len(info.heads) <= MAX_LAYERS
    footprint.kv_bytes_per_token(info)
    assert footprint.estimate_bytes([info]) > 0


class TestJunk:
    def test_the_sample_is_good(self, put: Callable[[bytes], Path]) -> None:
        info = read(put(padded(SAMPLE) + bytes(8192 + 1152)))
        assert (info.complete, info.kv_heads, info.vocabulary) == (True, (1, 2, 3, 4, 5, 6, 7), 3)

    @FUZZ
    @given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
    def test_bytes_that_flipped(self, put: Callable[[bytes], Path], flips: list[tuple[int, int]]) -> None:
        data = bytearray(SAMPLE)
        for position, value in flips:
            data[position] = value
        survives(put(bytes(data)))

    @FUZZ
    @given(st.integers(0, len(SAMPLE) - 9), st.integers(0, 2**64 - 1))
    def test_numbers_that_lie(self, put: Callable[[bytes], Path], position: int, value: int) -> None:
        survives(put(SAMPLE[:position] + struct.pack("<Q", value) + SAMPLE[position + 8 :]))

    @FUZZ
    @given(st.integers(0, len(SAMPLE)), st.binary(max_size=64))
    def test_ends_that_broke_off(self, put: Callable[[bytes], Path], end: int, more: bytes) -> None:
        survives(put(SAMPLE[:end] + more))

    def test_every_end(self, put: Callable[[bytes], Path]) -> None:
        for end in range(len(SAMPLE)):
            assert "ends too early" in refused(put(SAMPLE[:end]))

    @FUZZ
    @given(st.binary(max_size=512), st.integers(0, 4), st.integers(0, 4))
    def test_bytes_by_chance(self, put: Callable[[bytes], Path], data: bytes, tensors: int, keys: int) -> None:
        survives(put(data))
        survives(put(header(counts={"tensors": tensors, "pairs": keys}) + data))
