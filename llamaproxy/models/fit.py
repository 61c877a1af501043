"""Whether a model that is not here yet would fit this machine.

Pure. The formula is `footprint`'s; what it needs beside the size is the header of any file of the repository, because
quantisations differ in their weights only.
"""

from dataclasses import dataclass
from enum import StrEnum

from llamaproxy.models.footprint import PROCESS, estimate_bytes
from llamaproxy.models.gguf import GgufInfo

SMALL_CONTEXT = 4096
"""Tokens: with less, few would want a model."""
_COMFORT = 0.85
"""The part of the room that a model may take before it is tight: others want some, too."""


class Fits(StrEnum):
    YES = "yes"
    TIGHT = "tight"
    """All of the room, or with a smaller context only."""
    NO = "no"


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that models may take here: of RAM, and of all GPUs together."""

    ram: int
    vram: int = 0


@dataclass(frozen=True, slots=True)
class Fit:
    """Bytes. `needed` with the model's own `context`, `needed_small` with one of 4,096 tokens.

    The context is None where its cost is not known, so that both are the files alone. `on_gpu`: all of it has room on
    the GPUs.
    """

    fits: Fits
    needed: int
    needed_small: int
    room: int
    context: int | None
    on_gpu: bool


def fit(size: int, info: GgufInfo | None, room: Room) -> Fit:
    """`size` is that of all its files; `info` the header of one with the same architecture."""
    context = info.context_length if info else None
    small = size + _beside_weights(info, min(SMALL_CONTEXT, context or SMALL_CONTEXT))
    needed = max(small, size + _beside_weights(info, None))
    everything = room.ram + room.vram
    fits = Fits.TIGHT if small <= everything else Fits.NO
    if needed <= _COMFORT * everything:
        fits = Fits.YES
    return Fit(fits, needed, small, everything, context, needed <= room.vram)


def _beside_weights(info: GgufInfo | None, context: int | None) -> int:
    """Caches, buffers and the process itself."""
    if info is None:
        return PROCESS
    return estimate_bytes([info], context) - max(info.tensor_bytes, info.data_end)
