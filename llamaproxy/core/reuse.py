"""Whether a restored KV cache was of any use: what a returning conversation should find there, and what it found.

Pure. Prompts are never kept: a request is known again by hashes of its body's beginning. What an engine says of a
restore is not believed; the `timings` of the next answer are.
"""

from dataclasses import dataclass
from itertools import takewhile
from zlib import crc32

BLOCK = 512
"""Bytes of a body for each hash. What is shorter is not known again, and not worth carrying."""
MOST_BLOCKS = 64
"""32 KiB of a body are looked at: reading all of a large one would cost more than is learned."""
MOST_IN_VAIN = 2
"""Restores in a row without any use after which there shall be no more."""
_ENOUGH = 0.5
"""Of the tokens that should have been there. Templates rewrite the last turns of a conversation, never most of it."""


@dataclass(slots=True)
class Fingerprint:
    """How a request is known again: hashes of its body's beginnings of 1, 2, 3 … blocks, and its length in bytes."""

    hashes: tuple[int, ...]
    length: int

    @classmethod
    def of(cls, body: bytes) -> "Fingerprint":
        return cls(_hashes(body), len(body))

    def share_of(self, earlier: "Fingerprint") -> float:
        """The part of this body, from 0 to 1, that is the beginning of the earlier one, too."""
        same = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self.hashes, earlier.hashes, strict=False))
        )
        return same * BLOCK / self.length if same else 0.0


def _hashes(body: bytes) -> tuple[int, ...]:
    """Each of everything up to there. Checksums: they cost a tenth, and who makes two alike deceives only himself."""
    hashes: list[int] = []
    checksum = begin = 0
    last = min(len(body), MOST_BLOCKS * BLOCK)
    while (end := begin + BLOCK) <= last:
        checksum = crc32(body[begin:end], checksum)
        hashes.append(checksum)
        begin = end
    return tuple(hashes)


def was_of_use(prompt: int, cached: int, share: float, restored: int) -> bool:
    """Whether enough was found of what a conversation left behind: so many tokens of its prompt in the cache.

    `share` is the part of its body that is known, `restored` the number of tokens that were restored: more than
    either cannot be asked for.
    """
    return cached >= _ENOUGH * min(share * prompt, restored)


class Trial:
    """Restores of one model, judged one after the other; `failed` once too many in a row were in vain."""

    def __init__(self) -> None:
        self._in_vain = 0

    @property
    def failed(self) -> bool:
        return self._in_vain >= MOST_IN_VAIN

    def judge(self, useful: bool) -> None:
        self._in_vain = 0 if useful else self._in_vain + 1
