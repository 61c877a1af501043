"""The header of a GGUF file: which model it holds, how large it is, and whether the file is all there.

Owns the format, as the engine reads it: versions 2 and 3, little-endian, no arrays within arrays. Reads the header
only, with a bound on all of it, and believes no length that stands in it. Must not decide how much memory a model
needs (`footprint` does) nor where models are found (`scan` does).
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from llamaproxy.errors import InvalidModelFile
from llamaproxy.models.window import Fault, Reader, opened

MAX_HEADER = 64 * 1024**2
"""Bytes. A vocabulary of 262,144 tokens with its merges makes a header of about 16 MB."""
MAX_KEYS = 16_384
MAX_TENSORS = 262_144
LARGEST = 2**53
"""Of any number: the last one that every reader of JSON understands."""
MAX_LAYERS = 1024
"""Twice what the engine takes (LLAMA_MAX_LAYERS)."""
_LONGEST_KEY = 1024
_LONGEST_TEXT = 1024
"""Bytes that are kept of a text. The rest is skipped, as are arrays of texts."""


def _numbered(rows: str) -> dict[int, list[str]]:
    return {int(number): words for number, *words in map(str.split, rows.split(","))}


TENSOR_TYPES: Mapping[int, tuple[str, int, int]] = {
    number: (name, int(elements), int(size))
    for number, (name, elements, size) in _numbered(
        """
        0 F32 1 4, 1 F16 1 2, 2 Q4_0 32 18, 3 Q4_1 32 20, 6 Q5_0 32 22, 7 Q5_1 32 24, 8 Q8_0 32 34, 9 Q8_1 32 36,
        10 Q2_K 256 84, 11 Q3_K 256 110, 12 Q4_K 256 144, 13 Q5_K 256 176, 14 Q6_K 256 210, 15 Q8_K 256 292,
        16 IQ2_XXS 256 66, 17 IQ2_XS 256 74, 18 IQ3_XXS 256 98, 19 IQ1_S 256 50, 20 IQ4_NL 32 18, 21 IQ3_S 256 110,
        22 IQ2_S 256 82, 23 IQ4_XS 256 136, 24 I8 1 1, 25 I16 1 2, 26 I32 1 4, 27 I64 1 8, 28 F64 1 8,
        29 IQ1_M 256 56, 30 BF16 1 2, 34 TQ1_0 256 54, 35 TQ2_0 256 66, 39 MXFP4 32 17, 40 NVFP4 64 36,
        41 Q1_0 128 18, 42 Q2_0 64 18
        """
    ).items()
}
"""Name, elements in a block and bytes of a block, by number. Source: llama.cpp's ggml.h and ggml-common.h."""
_FILE_TYPES = {
    number: name
    for number, (name,) in _numbered(
        """
        0 F32, 1 F16, 2 Q4_0, 3 Q4_1, 7 Q8_0, 8 Q5_0, 9 Q5_1, 10 Q2_K, 11 Q3_K_S, 12 Q3_K_M, 13 Q3_K_L, 14 Q4_K_S,
        15 Q4_K_M, 16 Q5_K_S, 17 Q5_K_M, 18 Q6_K, 19 IQ2_XXS, 20 IQ2_XS, 21 Q2_K_S, 22 IQ3_XS, 23 IQ3_XXS, 24 IQ1_S,
        25 IQ4_NL, 26 IQ3_S, 27 IQ3_M, 28 IQ2_S, 29 IQ2_M, 30 IQ4_XS, 31 IQ1_M, 32 BF16, 36 TQ1_0, 37 TQ2_0,
        38 MXFP4_MOE, 39 NVFP4, 40 Q1_0, 41 Q2_0
        """
    ).items()
}
_GUESSED = 1024
_POOLING = {0: "none", 1: "mean", 2: "cls", 3: "last", 4: "rank"}
ENCODERS = frozenset(
    "bert nomic-bert nomic-bert-moe jina-bert-v2 jina-bert-v3 neo-bert eurobert modern-bert gemma-embedding"
    " gemma-embedding2".split()
)
"""Architectures that only embed: the engine gives them no KV cache."""

_NUMBERS = {
    number: struct.Struct(f"<{letter}")
    for number, letter in {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "?",
        10: "Q",
        11: "q",
        12: "d",
    }.items()
}
_TEXT, _ARRAY = 8, 9

Value = bool | int | float | str | tuple[int | float, ...]


@dataclass(frozen=True, slots=True)
class GgufInfo:
    """What stands in one file's header. Sizes are bytes; what the header does not say is None or ().

    `settings` are the numbers under the architecture's own name ("attention.sliding_window"), arrays among them.
    `tensor_bytes` and `data_end` leave out tensors of a type that is not known here.
    """

    kind: str
    architecture: str
    name: str | None
    quantisation: str | None
    parameters: int
    file_size: int
    tensor_bytes: int
    data_end: int
    layers: int | None
    context_length: int | None
    embedding_length: int | None
    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    key_length: int | None
    value_length: int | None
    sliding_window: int | None
    vocabulary: int | None
    pooling: str | None
    chat_template: bool
    split_no: int
    split_count: int
    settings: Mapping[str, Value] = field(repr=False, hash=False)

    @property
    def complete(self) -> bool:
        """Whether the file reaches to the end of its last tensor: a download that broke off does not."""
        return self.file_size >= self.data_end

    @property
    def embedding(self) -> bool:
        """Whether it is a model for embeddings; one for reranking is not."""
        return self.pooling in ("mean", "cls", "last") or (self.pooling is None and self.architecture in ENCODERS)


def read(path: Path) -> GgufInfo:
    """What the file holds. Raises InvalidModelFile, and nothing else. Blocks on the disk."""
    try:
        with opened(path, MAX_HEADER) as reader:
            return _read(reader)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidModelFile(f"{_printable(path)} cannot be read: {reason}", detail=str(path)) from error
    except Fault as fault:
        raise InvalidModelFile(f"{_printable(path)} is no usable GGUF file: {fault}", detail=str(path)) from fault


def _printable(path: Path) -> str:
    return ascii(path.name)[1:-1]


def _read(reader: Reader) -> GgufInfo:
    tensors, keys = _counts(reader)
    values, lengths = _values(reader, keys)
    parameters, tensor_bytes, data_end = _tensors(reader, tensors, _alignment(values))
    architecture = _text(values, "general.architecture") or ""
    prefix = f"{architecture}."
    own = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
    layers, embedding_length = _count(own, "block_count"), _count(own, "embedding_length")
    heads = _per_layer(own.get("attention.head_count"), layers)
    head_length = embedding_length // heads[0] if embedding_length and heads and heads[0] else None
    file_type, pooling = _count(values, "general.file_type"), _count(own, "pooling_type")
    return GgufInfo(
        kind=_text(values, "general.type") or "model",
        architecture=architecture,
        name=_text(values, "general.name"),
        quantisation=None if file_type is None else _FILE_TYPES.get(file_type & ~_GUESSED),
        parameters=parameters,
        file_size=reader.size,
        tensor_bytes=tensor_bytes,
        data_end=data_end,
        layers=layers,
        context_length=_count(own, "context_length"),
        embedding_length=embedding_length,
        heads=heads,
        kv_heads=_per_layer(own.get("attention.head_count_kv"), layers) or heads,
        key_length=_count(own, "attention.key_length") or head_length,
        value_length=_count(own, "attention.value_length") or head_length,
        sliding_window=_count(own, "attention.sliding_window"),
        vocabulary=_count(own, "vocab_size") or lengths.get("tokenizer.ggml.tokens"),
        pooling=None if pooling is None else _POOLING.get(pooling),
        chat_template="tokenizer.chat_template" in values,
        split_no=_count(values, "split.no") or 0,
        split_count=_count(values, "split.count") or 1,
        settings=MappingProxyType({key: value for key, value in own.items() if not isinstance(value, str)}),
    )


def _counts(reader: Reader) -> tuple[int, int]:
    """How many tensors and how many keys there are."""
    if reader.take(4) != b"GGUF":
        raise Fault("it does not begin with GGUF")
    version = reader.u32()
    if version & 0xFFFF == 0:
        raise Fault("it is for big-endian machines")
    if version not in (2, 3):
        raise Fault(f"version {version} of the format is not supported")
    tensors, keys = reader.u64(), reader.u64()
    if tensors > MAX_TENSORS or keys > MAX_KEYS:
        raise Fault(f"{tensors} tensors and {keys} keys are too many")
    return tensors, keys


def _values(reader: Reader, count: int) -> tuple[dict[str, Value], dict[str, int]]:
    """The values by key, long arrays and arrays of texts left out; and the lengths of all arrays."""
    values: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    seen: set[str] = set()
    for _ in range(count):
        key = reader.text(_LONGEST_KEY)
        if not key or key in seen:
            raise Fault(f"the key {key[:80]!a} stands there twice" if key else "a key is empty")
        seen.add(key)
        if (kind := reader.u32()) == _ARRAY:
            kind, lengths[key] = reader.u32(), reader.u64()
            if (kept := _array(reader, kind, lengths[key])) is not None:
                values[key] = kept
        else:
            values[key] = reader.text(_LONGEST_TEXT) if kind == _TEXT else reader.number(_layout(kind))
    return values, lengths


def _array(reader: Reader, kind: int, length: int) -> tuple[int | float, ...] | None:
    if kind == _TEXT:
        reader.skip_texts(length)
        return None
    layout = _layout(kind)
    if length > MAX_LAYERS:
        reader.skip(length * layout.size)
        return None
    return tuple(reader.number(layout) for _ in range(length))


def _layout(kind: int) -> struct.Struct:
    if layout := _NUMBERS.get(kind):
        return layout
    raise Fault("it has an array within an array" if kind == _ARRAY else f"it has a value of unknown type {kind}")


def _alignment(values: Mapping[str, Value]) -> int:
    alignment = values.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise Fault("general.alignment is not a power of two")
    return alignment


def _tensors(reader: Reader, count: int, alignment: int) -> tuple[int, int, int]:
    """The number of parameters, the bytes they take, and where in the file the last of them ends.

    The engine wants every tensor to begin where the one before it ends, rounded up.
    """
    parameters = tensor_bytes = end = 0
    known = True
    for _ in range(count):
        reader.skip_texts(1)
        elements, size, offset = _tensor(reader)
        if known and offset != -end % alignment + end:
            raise Fault("its tensors do not follow upon each other")
        known = known and size is not None
        parameters, tensor_bytes, end = parameters + elements, tensor_bytes + (size or 0), offset + (size or 0)
    if parameters > LARGEST or end > LARGEST:
        raise Fault("its tensors are impossibly large")
    start = -reader.position % alignment + reader.position
    return parameters, tensor_bytes, start + end if count else reader.position


def _tensor(reader: Reader) -> tuple[int, int | None, int]:
    """Elements, bytes (None where the type is not known) and offset of the next tensor."""
    dimensions = reader.u32()
    if dimensions > 4:
        raise Fault(f"a tensor has {dimensions} dimensions")
    shape = [reader.u64() for _ in range(dimensions)]
    elements = math.prod(shape)
    _, block, size = TENSOR_TYPES.get(reader.u32(), ("", 0, 0))
    if elements > LARGEST or (block and (shape or [1])[0] % block):
        raise Fault("a tensor has an impossible shape")
    return elements, elements // block * size if block else None, reader.u64()


def _text(values: Mapping[str, Value], key: str) -> str | None:
    value = values.get(key)
    return value if isinstance(value, str) else None


def _count(values: Mapping[str, Value], key: str) -> int | None:
    """A whole number of zero or more, if that is what stands there."""
    value = values.get(key)
    return value if type(value) is int and 0 <= value <= LARGEST else None


def _per_layer(value: Value | None, layers: int | None) -> tuple[int, ...]:
    """One number for each layer, from one for all of them or from a list."""
    if not layers or layers > MAX_LAYERS:
        return ()
    numbers = value[:layers] if isinstance(value, tuple) else (value,) * layers
    if len(numbers) < layers or not all(type(number) is int and 0 <= number <= LARGEST for number in numbers):
        return ()
    return tuple(int(number) for number in numbers if number is not None)
