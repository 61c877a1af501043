"""From a model's settings to the memory that one process of it will take.

Owns what the settings and llama-server's arguments mean for memory: which files are loaded, how much context, and
what goes to the devices. The formula is `footprint`'s; what is measured later replaces all of it. Pure but for the
reading of headers, which it is given.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from llamaproxy.core.footprint import Footprint
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.models import options
from llamaproxy.models.footprint import PROCESS, estimate_bytes
from llamaproxy.models.gguf import GgufInfo

Read = Callable[[Path], GgufInfo]
"""The header of a file. Raises InvalidModelFile or OSError."""

_SHARD = re.compile(r"(?P<base>.*)-\d{5}-of-(?P<count>\d{5})\.gguf")
_MOST_SHARDS = 1000


def estimate(model: ModelConfig, arguments: Sequence[str], budgets: Sequence[int], read: Read) -> Footprint:
    """Bytes of RAM and of each device; `arguments` are the engine's and the model's own, in their order.

    `budgets`, in bytes, say which devices there are; without any, everything is in RAM. Where the engine itself chooses
    the number of layers on the devices, what does not fit there is in RAM. Raises what `read` does, and ValueError for
    a cache type that is none.
    """
    given = dict(_values(arguments))
    infos = [read(path) for path in files(model)]
    total = estimate_bytes(
        infos,
        ctx=model.ctx_size or _count(given, "--ctx-size"),
        slots=model.parallel or _count(given, "--parallel"),
        type_k=given.get("--cache-type-k", "f16"),
        type_v=given.get("--cache-type-v", "f16"),
    )
    if not budgets or given.get("--device") == "none":
        return Footprint(total)
    layers = _layers(model, given)
    wanted = total - PROCESS if layers is None else int((total - PROCESS) * _share(layers, infos[0].layers))
    devices = _spread(wanted, budgets, given)
    if layers is None:
        devices = tuple(map(min, devices, budgets))
    return Footprint(total - sum(devices), devices)


def files(model: ModelConfig) -> list[Path]:
    """What our engine loads: the model's file, or all of its shards, and the projector; nothing of other servers."""
    if model.path is None:
        return []
    first = Path(model.path)
    match = _SHARD.fullmatch(first.name)
    count = int(match["count"]) if match else 1
    names = [first]
    if match and 1 < count <= _MOST_SHARDS:
        names = [first.with_name(f"{match['base']}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)]
    return [*names, Path(model.mmproj)] if model.mmproj else names


def _values(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options with one value, by their canonical name; a later one wins."""
    words = iter(arguments)
    for word in words:
        option = options.argument(word)
        values = [next(words, "") for _ in range(option.values)] if option else []
        if option and len(values) == 1:
            yield option.name, values[0]


def _count(given: dict[str, str], name: str) -> int | None:
    text = given.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _layers(model: ModelConfig, given: dict[str, str]) -> int | None:
    """Layers on the devices: -1 for all, None where the engine chooses."""
    if model.gpu_layers is not None:
        return model.gpu_layers
    text = given.get("--n-gpu-layers", "auto")
    return -1 if text == "all" else int(text) if text.isdecimal() and len(text) < 6 else None


def _share(wanted: int, layers: int | None) -> float:
    """What part of the model so many layers are; the last one counted is the output."""
    return 1.0 if wanted < 0 or not layers else min(1.0, wanted / (layers + 1))


def _spread(size: int, budgets: Sequence[int], given: dict[str, str]) -> tuple[int, ...]:
    """One device, or all in the proportions of --tensor-split, or else of their budgets."""
    if given.get("--split-mode") == "none":
        main = min(_count(given, "--main-gpu") or 0, len(budgets) - 1)
        return tuple(size if index == main else 0 for index in range(len(budgets)))
    parts = [_number(part) for part in given.get("--tensor-split", "").split(",")][: len(budgets)]
    weights = parts if sum(parts) else list(map(float, budgets))
    weights += [0.0] * (len(budgets) - len(weights))
    return tuple(int(size * weight / sum(weights)) for weight in weights)


def _number(text: str) -> float:
    try:
        return max(0.0, min(1e9, float(text)))
    except ValueError:
        return 0.0
