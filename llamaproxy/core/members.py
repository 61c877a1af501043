"""The members of a JSON object, and where each of them stands.

Only for text that was found valid, as `wish` does: of anything else it says something, or raises ValueError.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from llamaproxy.core.skeleton import PIECE, Skeleton, skeleton

_BLANK = re.compile(r"[ \t\n\r]*")
# Numbers are only passed over: converting them takes time, and very long ones are refused.
_read = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode


@dataclass(frozen=True, slots=True)
class Member:
    """A key as it is meant, not as it is spelled; where its spelling begins, and where its value stands."""

    key: str
    at: int
    value: slice


def members(text: bytes, piece: int = PIECE) -> list[Member]:
    """Those of the outermost object, in their order and as often as they stand there; none if it is no object.

    Keys of other characters than ASCII's may come out garbled, and those longer than `piece` bytes shortened.
    """
    bones = skeleton(text, piece)
    try:
        return list(_placed(bones))
    except ValueError:
        if not bones.cuts:
            raise
        return list(_placed(Skeleton(text)))


def _placed(bones: Skeleton) -> Iterator[Member]:
    for key, *places in _members(bones.text):
        at, start, last = bones.in_whole([*places[:2], places[2] - 1])
        yield Member(key, at, slice(start, last + 1))


def _members(body: bytes) -> Iterator[tuple[str, int, int, int]]:
    """Key, its place, and where its value begins and ends."""
    # In Latin-1 every byte is a character, so that places in the text are places in the body.
    text = body.decode("latin-1")
    at = _blank(text, 0)
    if text[at : at + 1] != "{":
        return
    at = _blank(text, at + 1)
    while text[at] != "}":
        key, end = _read(text, at)
        begin = _blank(text, _blank(text, end) + 1)
        _, end = _read(text, begin)
        yield key, at, begin, end
        at = _blank(text, end)
        at = _blank(text, at + 1) if text[at] == "," else at


def _blank(text: str, at: int) -> int:
    """The place after the blanks that begin at `at`."""
    found = _BLANK.match(text, at)
    assert found
    return found.end()
