"""How much memory a model will need, guessed before its first start from the headers of its files.

Owns the formula, whose facts are those of llama.cpp b11434 (sources beside them, measurements in the tests). Pure.
A guess to begin with: what is measured later replaces it. Left out: the prompt cache in host RAM (`--cache-ram`,
8 GiB at most unless told otherwise), what a GPU's driver takes, and the caches of draft models.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llamaproxy.models.gguf import ENCODERS, MAX_LAYERS, TENSOR_TYPES, GgufInfo

UBATCH = 512
"""Tokens computed at once, the engine's default."""
PROCESS = 32 * 1024**2
"""Bytes of an engine process beside its model: 16 MB were measured."""
_AUTOMATIC_SLOTS = 4
_PADDING = 256
"""Cells of a KV cache come in this step. Source: llama-context.cpp, llama-kv-cache-iswa.cpp."""
_CACHE_TYPES = {name.lower(): (block, size) for name, block, size in TENSOR_TYPES.values()}

# Source: create_memory() in llama-model.cpp, llm_arch_is_recurrent() in llama-arch.cpp.
_WITHOUT_CACHE = ENCODERS | frozenset("dream llada llada-moe rnd1 wavtokenizer-dec".split())
_RECURRENT = frozenset("mamba mamba2 rwkv6 rwkv6qwen2 rwkv7 arwkv7".split())
_INTERVALS = frozenset("qwen3next qwen35 qwen35moe minimax-01".split())
"""Every fourth layer attends, the others are recurrent, unless the header has another `full_attention_interval`."""

# Every n-th layer attends to everything, the others to a window. Source: load_swa_pattern() in llama.cpp's src/models.
_PERIODS = {
    **{"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "cohere2": 4, "cohere2moe": 4, "exaone4": 4, "llama4": 4},
    **{"exaone-moe": 4, "olmo2": 4, "afmoe": 4, "plamo3": 8, "mellum": 4, "smallthinker": 4, "laguna": 4},
}
_FULL_FIRST = frozenset("cohere2moe smallthinker laguna".split())
_WINDOWS = {"gemma2": 4096, "llama4": 8192, "exaone-moe": 128}
"""Tokens, where the header does not say."""
_GEMMA3N_CACHED = 20
"""Layers of gemma3n with a cache; the others use theirs."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """Elements that one token takes in the cache of one layer."""

    keys: int
    values: int
    sliding: bool


def kv_bytes_per_token(info: GgufInfo, type_k: str = "f16", type_v: str = "f16") -> int | None:
    """Bytes that one more token of context costs, or None where the header does not say enough.

    Layers that attend to a window only do not count: their cache stops growing at the window's size. Raises
    ValueError for an unknown type.
    """
    if not _is_known(info):
        return None
    return sum(_bytes(layer, type_k, type_v) for layer in _layers(info) if not layer.sliding)


def estimate_bytes(
    infos: Sequence[GgufInfo],
    ctx: int | None = None,
    slots: int | None = None,
    type_k: str = "f16",
    type_v: str = "f16",
) -> int:
    """Bytes of weights, KV caches, recurrent states and compute buffers of one engine process.

    `infos` are all files it loads: the model first, then its other shards and its projector, which bring weights
    only. `ctx` counts tokens over all slots, 0 or None means the model's own; without `slots` the engine takes four
    that share one cache. Raises ValueError for an unknown type.
    """
    model = infos[0]
    weights = sum(max(info.tensor_bytes, info.data_end) for info in infos)
    context = ctx or model.context_length or 4096
    streams = slots or 1
    cells = _padded(context // streams)
    window = (model.sliding_window or _WINDOWS.get(model.architecture, 0)) * (1 if slots else _AUTOMATIC_SLOTS)
    window_cells = _padded(min(cells, window + UBATCH))
    layers = [(window_cells if layer.sliding else cells, _bytes(layer, type_k, type_v)) for layer in _layers(model)]
    cache = streams * sum(length * size for length, size in layers)
    masks = sum({length for length, _ in layers})
    users = slots or _AUTOMATIC_SLOTS
    return weights + cache + users * _state_bytes(model) + _compute_bytes(model, masks, users) + PROCESS


def _padded(cells: int) -> int:
    return max(1, -(-cells // _PADDING)) * _PADDING


def _is_known(info: GgufInfo) -> bool:
    if info.architecture in _WITHOUT_CACHE | _RECURRENT:
        return True
    return bool(info.kv_heads and info.key_length is not None and info.value_length is not None)


def _layers(info: GgufInfo) -> Iterator[_Layer]:
    """The layers that have a KV cache. Source: llama_kv_cache's constructor, n_embd_k_gqa() in llama-hparams.cpp.

    With multi-head latent attention (a `key_length_mla`) only keys are cached.
    """
    if info.architecture in _WITHOUT_CACHE | _RECURRENT or not _is_known(info):
        return
    latent = bool(_number(info, "attention.key_length_mla"))
    full = info.key_length or 0, info.value_length or 0
    windowed = tuple(
        _number(info, f"attention.{name}_length_swa") or length
        for name, length in zip(("key", "value"), full, strict=True)
    )
    for index in range(_cached_layers(info)):
        if not _is_recurrent(info, index):
            sliding = _is_sliding(info, index)
            keys, values = windowed if sliding else full
            heads = info.kv_heads[index]
            yield _Layer(heads * keys, 0 if latent else heads * values, sliding)


def _cached_layers(info: GgufInfo) -> int:
    """How many layers, from the first, have caches of their own."""
    layers = len(info.kv_heads) - _number(info, "nextn_predict_layers")
    if info.architecture == "gemma3n":
        return min(layers, _GEMMA3N_CACHED)
    return max(0, layers - _number(info, "attention.shared_kv_layers"))


def _is_recurrent(info: GgufInfo, index: int) -> bool:
    if info.architecture in _RECURRENT or not info.kv_heads[index : index + 1] or info.kv_heads[index] == 0:
        return True
    interval = _number(info, "full_attention_interval") or (4 if info.architecture in _INTERVALS else 1)
    return (index + 1) % interval != 0


def _is_sliding(info: GgufInfo, index: int) -> bool:
    """Whether a layer attends to a window only. Source: set_swa_pattern() in llama-hparams.cpp."""
    if not info.sliding_window and (info.sliding_window == 0 or info.architecture not in _WINDOWS):
        return False
    if info.architecture == "exaone4" and info.layers != 64:
        return False
    pattern = info.settings.get("attention.sliding_window_pattern", _PERIODS.get(info.architecture))
    if isinstance(pattern, tuple):
        return bool(pattern[index : index + 1] and pattern[index])
    if type(pattern) is not int:
        return False
    if pattern <= 0 or info.architecture in _FULL_FIRST:
        return pattern <= 0 or index % pattern != 0
    return index % pattern < pattern - 1


def _bytes(layer: _Layer, type_k: str, type_v: str) -> int:
    return sum(_row(count, name) for count, name in ((layer.keys, type_k), (layer.values, type_v)))


def _row(elements: int, name: str) -> int:
    if name not in _CACHE_TYPES:
        raise ValueError(f"{name!r:.40} is no type of a KV cache, which is one of {', '.join(_CACHE_TYPES)}")
    block, size = _CACHE_TYPES[name]
    return -(-elements // block) * size


def _state_bytes(info: GgufInfo) -> int:
    """Bytes that recurrent layers keep for each slot, in f32. Source: n_embd_r(), n_embd_s() in llama-hparams.cpp."""
    width = info.embedding_length or 0
    if head := _number(info, "wkv.head_size"):
        elements = width * ((_number(info, "token_shift_count") or 2) + head)
    elif kernel := _number(info, "shortconv.l_cache"):
        elements = width * (kernel - 1)
    else:
        inner, state = _number(info, "ssm.inner_size"), _number(info, "ssm.state_size")
        kernel = max(1, _number(info, "ssm.conv_kernel"))
        elements = (kernel - 1) * (inner + 2 * _number(info, "ssm.group_count") * state) + inner * state
    layers = min(info.layers or 0, MAX_LAYERS)
    recurrent = sum(_is_recurrent(info, index) for index in range(layers)) if elements else 0
    return 4 * elements * (recurrent or layers)


def _compute_bytes(info: GgufInfo, masks: int, users: int) -> int:
    """Bytes of the compute and output buffers, with flash attention; `masks` are the lengths of its masks together.

    For each token of a batch a row of every mask (f16), 5 rows as wide as the model and 3 as wide as its feed-forward
    or recurrent part (f32); for each slot two rows of logits (f32). Measured with batches of 128 and 512 tokens and
    contexts of 2,048 to 8,192, with and without a sliding window.
    """
    width = max(info.embedding_length or 0, max(info.heads, default=0) * (info.key_length or 0))
    experts = _number(info, "expert_used_count") * _number(info, "expert_feed_forward_length")
    inner = max(_number(info, "feed_forward_length"), experts, 2 * _number(info, "ssm.inner_size"))
    rows = 5 * width + 3 * inner
    return UBATCH * (2 * masks + 4 * rows) + 8 * users * (info.vocabulary or 0)


def _number(info: GgufInfo, key: str) -> int:
    """A number of the header's, the largest one where there is one for each layer, 0 where there is none."""
    value = info.settings.get(key, 0)
    numbers = value if isinstance(value, tuple) else (value,)
    return max((number for number in numbers if type(number) is int and number > 0), default=0)
