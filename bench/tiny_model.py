"""A model of half a megabyte with random weights: it answers nonsense, and loads in a blink.

For runs in which engines start by the hundred and what they say does not matter. Written with the package `gguf`, which
is among the test dependencies.
"""

from pathlib import Path
from typing import Any

import gguf
import numpy
from numpy.typing import NDArray

WIDTH, HEADS, LAYERS, FEED_FORWARD, CONTEXT = 64, 4, 2, 128, 2048
_SPECIAL = ("<unk>", "<s>", "</s>")
_SEED = 1


def write(path: Path) -> Path:
    """Two llama layers and a vocabulary of bytes."""
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer)
    tokens = _add_vocabulary(writer)
    chance = numpy.random.default_rng(_SEED)
    for name, shape in _shapes(tokens):
        writer.add_tensor(name, _weights(chance, shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _describe(writer: gguf.GGUFWriter) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)


def _add_vocabulary(writer: gguf.GGUFWriter) -> int:
    """Returns the number of tokens: the special ones, every byte, and the space that begins a text."""
    texts = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581"]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores([0.0] * len(texts))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    return len(texts)


def _shapes(tokens: int) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes as numpy has them, rows first."""
    square, up, down = (WIDTH, WIDTH), (FEED_FORWARD, WIDTH), (WIDTH, FEED_FORWARD)
    layer = {"attn_norm": (WIDTH,), "attn_q": square, "attn_k": square, "attn_v": square, "attn_output": square}
    layer |= {"ffn_norm": (WIDTH,), "ffn_gate": up, "ffn_up": up, "ffn_down": down}
    blocks = [(f"blk.{n}.{name}.weight", shape) for n in range(LAYERS) for name, shape in layer.items()]
    outside: list[tuple[str, tuple[int, ...]]] = [
        ("token_embd.weight", (tokens, WIDTH)),
        ("output_norm.weight", (WIDTH,)),
        ("output.weight", (tokens, WIDTH)),
    ]
    return outside + blocks


def _weights(chance: numpy.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    """Norms are ones; the last axis of a matrix is what is summed over."""
    if len(shape) == 1:
        return numpy.ones(shape, dtype=numpy.float32)
    weights: NDArray[Any] = chance.standard_normal(shape, dtype=numpy.float32) / numpy.float32(shape[-1] ** 0.5)
    return weights
