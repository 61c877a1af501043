"""Small GGUF files: good ones by the package `gguf`, which is not ours; by hand where they have to be wrong."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy

Types = gguf.GGMLQuantizationType
SHAPES = (("token_embd.weight", (32, 64), Types.F32), ("output_norm.weight", (64,), Types.F32))

Tensors = Sequence[tuple[str, tuple[int, ...], Types]]


def write(path: Path, architecture: str = "llama", tensors: Tensors = SHAPES, **settings: Any) -> Path:
    """A model of zeros; `settings` are keys, those without a dot under the architecture's name (`__` is a dot)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in settings.items():
        name = key.replace("__", ".")
        _add(writer, name if name.startswith(("general.", "tokenizer.", "split.")) else f"{architecture}.{name}", value)
    for name, shape, kind in tensors:
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        rows = (*shape[:-1], shape[-1] // elements * size)
        if kind == Types.F32:
            writer.add_tensor(name, numpy.zeros(shape, dtype=numpy.float32))
        else:
            writer.add_tensor(name, numpy.zeros(rows, dtype=numpy.uint8), raw_shape=rows, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int() if key.startswith("split.") and key != "split.tensors.count":
            writer.add_uint16(key, value)
        case int():
            writer.add_uint32(key, value) if value >= 0 else writer.add_int32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def shards(folder: Path, base: str, count: int, **settings: Any) -> list[Path]:
    """A model in shards; the vocabulary and all settings stand in the first."""
    return [
        write(
            folder / f"{base}-{number + 1:05}-of-{count:05}.gguf",
            tensors=[(f"blk.{number}.weight", (32, 64), Types.F32)],
            split__no=number,
            split__count=count,
            split__tensors__count=count,
            **(settings if not number else {}),
        )
        for number in range(count)
    ]


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str, shape: Sequence[int], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def header(
    pairs: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    counts: Mapping[str, int] | None = None,
) -> bytes:
    """A header as it is told to be; `counts` are numbers of pairs and tensors that are not true."""
    claimed = {"tensors": len(tensors), "pairs": len(pairs), **(counts or {})}
    begin = magic + struct.pack("<IQQ", version, claimed["tensors"], claimed["pairs"])
    return begin + b"".join(pairs) + b"".join(tensors)


def padded(data: bytes, alignment: int = 32) -> bytes:
    return data + b"\0" * (-len(data) % alignment)
