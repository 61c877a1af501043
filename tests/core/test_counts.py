"""Where each API has its counts, and what is made of a document of which only the ends are known."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.core.counts import HEAD, MOST, TAIL, WHOLE, Counts, counts_of, read, read_ends, total

TIMINGS = {
    "cache_n": 3,
    "prompt_n": 4,
    "prompt_per_second": 80.5,
    "predicted_n": 5,
    "predicted_per_second": 20.5,
}
ANTHROPIC = {"input_tokens": 2, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 4, "output_tokens": 5}


@pytest.mark.parametrize(
    ("document", "counts"),
    [
        ({"usage": {"prompt_tokens": 7, "completion_tokens": 5}}, Counts(7, None, 5)),
        ({"usage": {"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}}}, Counts(7, 3)),
        ({"usage": {"input_tokens": 7, "input_tokens_details": {"cached_tokens": 3}}}, Counts(7, 3)),
        ({"response": {"usage": {"input_tokens": 7, "output_tokens": 5}}}, Counts(7, None, 5)),
        ({"usage": ANTHROPIC}, Counts(9, 3, 5)),
        ({"message": {"usage": ANTHROPIC}}, Counts(9, 3, 5)),
        ({"usage": {"output_tokens": 5}}, Counts(None, None, 5)),
        ({"timings": TIMINGS}, Counts(7, 3, 5, 80.5, 20.5)),
        ({"usage": {"prompt_tokens": 8, "completion_tokens": 6}, "timings": TIMINGS}, Counts(8, 3, 6, 80.5, 20.5)),
        ({"prompt_progress": {"total": 9, "cache": 1}, "timings": TIMINGS}, Counts(9, 1, 5, 80.5, 20.5)),
        ({"tokens_evaluated": 7, "tokens_predicted": 5}, Counts(7, None, 5)),
        ({"choices": [{}, {}], "timings": TIMINGS}, Counts(7, 3, 10, 80.5, 20.5, of_one=True)),
        ({"choices": [{}, {}], "usage": {"completion_tokens": 5}}, Counts(completion=5)),
        ([{"timings": TIMINGS}, {"timings": TIMINGS}], Counts(14, 6, 10, 80.5, 20.5)),
        ({"usage": {"type": "duration", "seconds": 3}}, None),
        ({"input_tokens": 7}, None),
        ({"usage": None, "timings": []}, None),
        ([1, [], "usage"], None),
        ("usage", None),
        (None, None),
    ],
)
def test_each_spelling(document: Any, counts: Counts | None) -> None:
    assert counts_of(document) == counts


@pytest.mark.parametrize("number", [-1, MOST + 1, 2.0, True, "3", None, []])
def test_what_is_no_count_is_none(number: object) -> None:
    assert counts_of({"usage": {"prompt_tokens": number, "completion_tokens": 1}}) == Counts(completion=1)


@pytest.mark.parametrize("speed", [0, 0.0, -1.0, float("inf"), float("nan"), True, "fast", None])
def test_what_is_no_speed_is_none(speed: object) -> None:
    assert counts_of({"timings": {"predicted_n": 1, "predicted_per_second": speed}}) == Counts(completion=1)


class TestTotal:
    def test_answers_to_several_prompts_add_up(self) -> None:
        assert total([Counts(1, 0, 3, 5.0, 6.0), Counts(2, 1, 4, 7.0, 8.0)]) == Counts(3, 1, 7, 7.0, 8.0)

    def test_one_prompt_counts_once_and_was_evaluated_for_the_first(self) -> None:
        assert total([Counts(9, 2, 3), Counts(9, 8, 4)], shared_prompt=True) == Counts(9, 2, 7)

    def test_of_nothing_there_is_nothing(self) -> None:
        assert total([]) == Counts()


class TestEnds:
    """Of a large document."""

    @given(st.integers(0, 3 * WHOLE), st.sampled_from(["usage", "timings"]))
    def test_the_size_makes_no_difference(self, size: int, key: str) -> None:
        document = {"content": "x" * size, key: TIMINGS | {"prompt_tokens": 7, "completion_tokens": 5}}
        counts = read(json.dumps(document).encode())
        assert counts and (counts.prompt, counts.completion) == (7, 5)

    @pytest.mark.parametrize("nested", ['"input":{"usage":%s}', '"a":[{"usage":%s}]', '"a":{"b":{"usage":%s}}'])
    def test_counts_within_anything_else_are_a_models_words(self, nested: str) -> None:
        words = nested % '{"prompt_tokens":1,"completion_tokens":1}'
        filler = '"text":"%s"' % ("x" * WHOLE)
        assert read(f"{{{filler},{words}}}".encode()) is None
        assert read(f"{{{words},{filler}}}".encode()) is None
        told = '"usage":{"prompt_tokens":7}'
        assert read(f"{{{filler},{words},{told}}}".encode()) == Counts(7)
        assert read(f"{{{told},{words},{filler}}}".encode()) == Counts(7)

    def test_the_last_words_are_the_engines(self) -> None:
        words = ",".join(['{"usage":{"prompt_tokens":1}}'] * 20)
        told = '"usage":{"prompt_tokens":7}'
        assert read(f'{{"text":"{"x" * WHOLE}","a":[{words}],{told}}}'.encode()) == Counts(7)

    def test_many_words_cost_little(self) -> None:
        assert read_ends(b"", b'"usage":{' * (TAIL // 9)) is None
        assert read_ends(b'"usage":{}' * (HEAD // 10), b"") is None

    @given(st.binary(max_size=100), st.binary(max_size=100))
    def test_anything_can_be_read(self, head: bytes, tail: bytes) -> None:
        assert read_ends(head, tail) is None
        assert read_ends(b'{"usage":{' + head, b'"timings":{' + tail) in (None, read_ends(b"", b'"timings":{' + tail))
