"""llamaproxy.telemetry.captures: the ends of bodies, few of them, and no secrets of theirs."""

import itertools
from typing import Any

import pytest

from llamaproxy.telemetry.captures import _BEFORE as BEFORE
from llamaproxy.telemetry.captures import END_BYTES, Captures, Ends
from llamaproxy.telemetry.redaction import MASK, Redaction
from tests.telemetry.rows import ended

redact = Redaction().redact


def fed(content: bytes, size: int, limit: int = 10) -> Ends:
    ends = Ends(limit)
    for at in range(0, len(content), size):
        ends.feed(content[at : at + size])
    return ends


def shown(content: bytes, limit: int = 10) -> dict[str, Any]:
    return fed(content, 7, limit).shown(redact)


@pytest.mark.parametrize(
    ("length", "size"),
    [*itertools.product([0, 1, 9, 10, 11, 20, 21, BEFORE + 20, BEFORE + 21, 5000], [1, 3, 10, 25, 5000])],
)
def test_both_ends_are_kept_in_whatever_pieces_they_come(length: int, size: int) -> None:
    content = bytes(number % 251 for number in range(length))
    ends = fed(content, size)
    assert ends.total == length
    assert ends.first == content[:10]
    assert ends.last == content[10:][-10 - BEFORE :]


def test_many_small_pieces_take_no_more_than_their_bytes() -> None:
    ends = fed(b"x" * 100_000, 1, limit=1000)
    assert len(ends._last) <= 256
    assert sum(map(len, ends._last)) <= 1000 + BEFORE + 256


def test_piece_that_its_owner_uses_again_stays_as_it_was() -> None:
    buffer = bytearray(b"0123456789abc")
    ends = Ends(10)
    ends.feed(memoryview(buffer))  # type: ignore[arg-type]  # what an observer of bytes may be handed
    buffer[:] = b"-------------"
    assert (ends.first, ends.last) == (b"0123456789", b"abc")


def test_short_bodies_are_shown_whole() -> None:
    assert shown("grüße".encode()) == {"bytes": 7, "omitted": 0, "first": "grüße", "last": None}
    assert shown(b"0123456789abcdef")["first"] == "0123456789abcdef"
    assert shown(b"\xff\x00")["first"] == "\ufffd\x00"


def test_of_long_ones_it_is_told_what_is_missing() -> None:
    assert shown(b"0123, 6789" + b"-" * 2000 + b" " * BEFORE + b"ab cdefghi") == {
        "bytes": 2020 + BEFORE,
        "omitted": 2000 + BEFORE,
        "first": "0123, …",
        "last": "…ab cdefghi",
    }


@pytest.mark.parametrize("size", [END_BYTES, END_BYTES + BEFORE, 2 * END_BYTES, 3 * END_BYTES])
def test_no_secret_shows_wherever_a_body_is_cut(size: int) -> None:
    secret = "hunter22" * 6
    for before in range(size - 80, size, 7):
        content = (
            b'"'
            + b"x, " * (before // 3)
            + f'", "api_key": "{secret}"'.encode()
            + b', "y": "'
            + b"z, " * (END_BYTES // 3 - 20)
        )
        whole = fed(content, 1 << 20, END_BYTES).shown(redact)
        assert "unter22" not in f"{whole['first']}{whole['last']}"


def test_nothing_is_kept_while_it_is_off() -> None:
    captures = Captures(on=False)
    assert captures.begin(ended(1), b"x") is None
    assert captures.find("r-1") is None


def test_request_and_answer_are_there_while_the_answer_still_comes() -> None:
    captures = Captures(on=True)
    capture = captures.begin(ended(1, model="m"), b'{"password": "hunter22"}')
    assert capture
    capture.observe(b"data: 1\n\n")
    capture.observe(b"data: 2\n\n")
    assert capture is captures.find("r-1")
    assert capture.shown(redact) == {
        "id": "r-1",
        "model": "m",
        "started_at": 1_000_001.0,
        "request": {"bytes": 24, "omitted": 0, "first": f'{{"password": "{MASK}"}}', "last": None},
        "response": {"bytes": 18, "omitted": 0, "first": "data: 1\n\ndata: 2\n\n", "last": None},
    }


def test_oldest_goes() -> None:
    captures = Captures(on=True, most=2)
    for number in range(3):
        captures.begin(ended(number), b"x")
    assert [captures.find(f"r-{number}") is not None for number in range(3)] == [False, True, True]


def test_replay_takes_the_place_of_the_try_before() -> None:
    captures = Captures(on=True)
    captures.begin(ended(1), b"x")
    captures.begin(ended(1, replays=1), b"x")
    assert len(captures) == 1


def test_captures_can_be_deleted_one_by_one_or_all() -> None:
    captures = Captures(on=True, most=5)
    for number in range(4):
        captures.begin(ended(number), b"x")
    assert (captures.delete("r-1"), captures.delete("r-1"), len(captures)) == (True, False, 3)
    for number in range(10, 20):
        captures.begin(ended(number), b"x")
    assert len(captures) == 5, "the bound stays"
    captures.clear()
    assert len(captures) == 0


def test_switching_off_forgets() -> None:
    captures = Captures(on=True)
    captures.begin(ended(1), b"x")
    captures.switch(on=False)
    assert (len(captures), captures.begin(ended(2), b"x")) == (0, None)
    captures.switch(on=True)
    assert captures.begin(ended(3), b"x")
