"""llamaproxy.core.reuse: knowing a conversation again, reading what was reused of it, and the verdict."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.core.reuse import (
    BLOCK,
    MOST_BLOCKS,
    Fingerprint,
    Trial,
    was_of_use,
)

TIMINGS = {"cache_n": 580, "prompt_n": 1, "prompt_ms": 12.5, "predicted_n": 4}


def request(*turns: str) -> bytes:
    messages = [{"role": "user", "content": turn} for turn in turns]
    return json.dumps({"model": "m", "messages": messages, "stream": True}).encode()


def share(later: bytes, earlier: bytes) -> float:
    return Fingerprint.of(later).share_of(Fingerprint.of(earlier))


class TestFingerprint:
    def test_a_conversation_that_goes_on_is_known_again(self) -> None:
        first = "tell me all about bees " * 300
        assert share(request(first, "and wasps?"), request(first)) > 0.9

    def test_the_longer_what_is_new_the_smaller_the_share(self) -> None:
        first = "bees " * 500
        assert 0.4 < share(request(first, "wasps" * 500), request(first)) < 0.5

    def test_another_conversation_is_not(self) -> None:
        assert share(request("wasps " * 500), request("bees " * 500)) == 0

    def test_what_is_shorter_than_a_block_never_is(self) -> None:
        short = b"x" * (BLOCK - 1)
        assert Fingerprint.of(short).hashes == ()
        assert share(short, short) == 0
        assert share(b"", b"") == 0

    def test_of_a_large_body_only_the_beginning_is_read(self) -> None:
        large = b"x" * BLOCK * MOST_BLOCKS * 4
        assert len(Fingerprint.of(large).hashes) == MOST_BLOCKS
        assert share(large, large) == 0.25

    def test_it_holds_nothing_of_the_prompt(self) -> None:
        assert "secret" not in repr(Fingerprint.of(request("secret " * 200)))

    @given(st.binary(max_size=4 * BLOCK), st.binary(max_size=2 * BLOCK), st.binary(max_size=2 * BLOCK))
    def test_the_share_is_never_more_than_what_is_the_same(self, same: bytes, one: bytes, other: bytes) -> None:
        later, earlier = same + one, same + other
        common = next((at for at, (a, b) in enumerate(zip(later, earlier, strict=False)) if a != b), None)
        common = min(len(later), len(earlier)) if common is None else common
        assert 0 <= share(later, earlier) * len(later) <= common


class TestVerdict:
    @pytest.mark.parametrize(
        ("cached", "evaluated", "known", "restored", "useful"),
        [
            (1500, 5, 0.99, 1520, True),
            (0, 1505, 0.99, 1520, False),
            (40, 1465, 0.99, 1520, False),  # a system prompt that some other slot had
            (1500, 30_000, 0.05, 1520, True),  # the new turn is long
            (12, 1, 0.9, 4000, True),  # the answer was long, and does not come back
            (700, 700, 0.99, 700, True),  # no more than was restored can be found
        ],
    )
    def test_half_of_what_could_be_expected_is_enough(
        self, cached: int, evaluated: int, known: float, restored: int, useful: bool
    ) -> None:
        assert was_of_use(cached + evaluated, cached, known, restored) is useful

    def test_two_restores_in_vain_are_one_too_many(self) -> None:
        trial = Trial()
        trial.judge(False)
        assert not trial.failed
        trial.judge(False)
        assert trial.failed

    def test_a_useful_one_between_them_makes_up_for_the_first(self) -> None:
        trial = Trial()
        for useful in (False, True, False):
            trial.judge(useful)
        assert not trial.failed
