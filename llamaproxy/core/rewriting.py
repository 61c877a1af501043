"""A body whose outermost members are changed, and no other byte of it: numbers keep their digits, texts their spelling.

What it is given was read by `wish` before, which refuses bodies that cannot be understood. Forms are not for it.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise

import orjson

from llamaproxy.core.members import Member, members

_OPENING = re.compile(rb"[ \t\r\n]*\{")
_EMPTY = re.compile(rb"[ \t\r\n]*\}")
_OPTIONS = "stream_options"
_ASKING = {"include_usage": b"true"}
_TIMINGS = "timings_per_token"

Edit = tuple[int, int, bytes]
"""From where to where a text is replaced, and by what."""


def rewrite(body: bytes, put: Mapping[str, object], drop: Collection[str] = ()) -> bytes:
    """The JSON object with the members `put`, in their places where it has them, and without those named by `drop`.

    A key that stands in it more than once is changed, or dropped, each time; one of both is put. Anything else than an
    object stays as it is.
    """
    return _rewritten(body, {key: orjson.dumps(value) for key, value in put.items()}, set(drop) - put.keys())


def with_usage(body: bytes) -> tuple[bytes, bool]:
    """The body of a chat or completion that asks for `usage` at the end of its stream, and whether it did by itself.

    Other stream options stay; options that are no object are left for the engine to complain of.
    """
    if not _may_have(_OPTIONS, body):
        return _rewritten_without_looking(body, _OPTIONS, _object(_ASKING)), False
    found = [member for member in members(body) if member.key == _OPTIONS]
    options = body[found[-1].value.start : found[-1].value.stop] if found else b"null"
    meant = orjson.loads(options)
    if isinstance(meant, dict):
        asked = meant.get("include_usage") is True
        return body if asked else _rewritten(body, {_OPTIONS: _rewritten(options, _ASKING)}), asked
    return _rewritten(body, {_OPTIONS: _object(_ASKING)}) if meant is None else body, False


def with_timings(body: bytes) -> tuple[bytes, bool]:
    """The body of a stream that asks for `timings` with every token, as its last member, and whether it says anything
    of that by itself.

    What it begins with stays, by which a conversation is known again.
    """
    opening = _OPENING.match(body)
    if not opening or (_may_have(_TIMINGS, body) and any(member.key == _TIMINGS for member in members(body))):
        return body, True
    end = body.rindex(b"}")
    comma = b"" if _EMPTY.match(body, opening.end()) else b","
    return _edited(body, [(end, end, comma + _inside({_TIMINGS: b"true"}))]), False


def _may_have(key: str, body: bytes) -> bool:
    """Letters can be spelled as escapes; a single byte is found much faster than several."""
    return b'"%b"' % key.encode() in body or (b"\\" in body and b"\\u00" in body)


def _rewritten(body: bytes, put: Mapping[str, bytes], drop: Collection[str] = ()) -> bytes:
    opening = _OPENING.match(body)
    if not opening or not (put or drop):
        return body
    there = members(body)
    stays = [member for member in there if member.key not in drop]
    new = {key: put[key] for key in put if key not in {member.key for member in stays}}
    edits = [(opening.end(), opening.end(), _inside(new) + (b"," if new and stays else b""))]
    edits += [(member.value.start, member.value.stop, put[member.key]) for member in stays if member.key in put]
    edits += [(start, stop, b"") for start, stop in _cuts(there, drop)]
    return _edited(body, sorted(edits))


def _rewritten_without_looking(body: bytes, key: str, value: bytes) -> bytes:
    """With one member more, which it does not have."""
    opening = _OPENING.match(body)
    if not opening:
        return body
    comma = b"" if _EMPTY.match(body, opening.end()) else b","
    return _edited(body, [(opening.end(), opening.end(), _inside({key: value}) + comma)])


def _cuts(there: Sequence[Member], drop: Collection[str]) -> Iterator[tuple[int, int]]:
    """What goes: each member with the comma after it, those at the end with the one before them."""
    kept = [number for number, member in enumerate(there) if member.key not in drop]
    last = kept[-1] if kept else -1
    for member, following in pairwise(there[: last + 1]):
        if member.key in drop:
            yield member.at, following.at
    if last + 1 < len(there):
        yield there[last].value.stop if kept else there[0].at, there[-1].value.stop


def _edited(body: bytes, edits: Sequence[Edit]) -> bytes:
    """One copy, whatever the number of edits; these are in order, and do not overlap."""
    view, end = memoryview(body), 0
    pieces: list[bytes | memoryview] = []
    for start, stop, text in edits:
        pieces += (view[end:start], text)
        end = stop
    return b"".join((*pieces, view[end:]))


def _inside(fields: Mapping[str, bytes]) -> bytes:
    return b",".join(b"%b:%b" % (orjson.dumps(key), value) for key, value in fields.items())


def _object(fields: Mapping[str, bytes]) -> bytes:
    return b"{%b}" % _inside(fields)
