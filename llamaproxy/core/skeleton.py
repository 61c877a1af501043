"""What is left of a large JSON text when the insides of its long strings are cut out.

A picture in base64 is one string of megabytes, and a parser would make a second picture of it. A piece that is good as
the inside of a string by itself is checked by itself and cut out, with a mark in its place that is good nowhere else:
if what is left is valid JSON, the whole is, and it has the same members. What else is valid, parsers decide.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import orjson

PIECE = 16 * 1024
"""Bytes: large enough for what a piece costs to be lost in it, small enough to stay in the processor's caches."""
MARK = b"*"
"""Inside of a string it is a letter like others; outside of strings JSON has none."""

# Where a piece may end: not within an escape, which has 6 bytes at most, nor after one, nor within a character.
_SEAM = re.compile(rb"[^\\]{6}[^\x80-\xbf]")
_WINDOW = 64


@dataclass(frozen=True, slots=True)
class Skeleton:
    """`text` is what is left; `cuts` are the pieces that are not, as places in the whole, in their order."""

    text: bytes
    cuts: tuple[slice, ...] = ()

    def in_whole(self, places: list[int]) -> list[int]:
        """Where in the whole those bytes of what is left stand that are no marks."""
        missing = [0, *accumulate(cut.stop - cut.start - len(MARK) for cut in self.cuts)]
        marks = [cut.start - less for cut, less in zip(self.cuts, missing, strict=False)]
        return [place + missing[bisect_left(marks, place)] for place in places]


def skeleton(text: bytes, piece: int = PIECE) -> Skeleton:
    """The text without the insides of its long strings, cut out in pieces of about so many bytes, 64 at least.

    What is left of a text that is not valid JSON is not valid either. What is left of one that is valid may not be:
    what stands between two strings can look like the inside of one.
    """
    view, end = memoryview(text), 0
    kept: list[bytes | memoryview] = []
    cuts = []
    for cut in _pieces(text, piece):
        kept += (view[end : cut.start], MARK)
        cuts.append(cut)
        end = cut.stop
    return Skeleton(b"".join((*kept, view[end:])), tuple(cuts)) if cuts else Skeleton(text)


def _pieces(text: bytes, piece: int) -> Iterator[slice]:
    """What can be cut out. Between two quotes that are far apart there is some, if anywhere."""
    at = piece
    while (stop := text.find(b'"', at)) >= 0:
        start = text.rfind(b'"', at - piece, at) + 1
        if start and stop - start > piece:
            yield from _within(text, start, stop, piece)
        at = stop + piece


def _within(text: bytes, start: int, stop: int, piece: int) -> Iterator[slice]:
    while stop - start > piece:
        seam = _SEAM.search(text, start + piece - min(_WINDOW, piece // 2), start + piece)
        end = seam.end() - 1 if seam else start
        if not _fits_a_string(text[start:end]):
            return
        yield slice(start, end)
        start = end


def _fits_a_string(content: bytes) -> bool:
    """Nothing never does."""
    try:
        return bool(orjson.loads(b'"%b"' % content))
    except orjson.JSONDecodeError:
        return False
