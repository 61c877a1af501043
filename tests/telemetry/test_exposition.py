"""llamaproxy.telemetry.exposition: Prometheus' own parser reads what is written, and no page harms who reads."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from llamaproxy.telemetry.exposition import MOST_LINES, MOST_READINGS, Malformed, Reading, family, number, read

LABEL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=30)
PAGE = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 12
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2.5
# a comment
# TYPE vllm:other gauge
vllm:other{engine="0"} 3 1700000000000
"""


class TestWriting:
    @given(st.lists(st.tuples(LABEL, LABEL), min_size=1, max_size=5, unique=True), st.floats())
    def test_prometheus_reads_what_was_meant(self, labels: list[tuple[str, str]], value: float) -> None:
        text = family(
            "lp_x", "gauge", 'a "help" with \\ and\nnewline', ("model", "key"), [(pair, value) for pair in labels]
        )
        (read_back,) = text_string_to_metric_families(text)
        assert (read_back.name, read_back.type) == ("lp_x", "gauge")
        assert read_back.documentation == 'a "help" with \\ and\nnewline'
        assert [(sample.labels["model"], sample.labels["key"]) for sample in read_back.samples] == labels
        assert all(sample.value == value or math.isnan(value) for sample in read_back.samples)

    def test_family_without_samples_has_no_lines(self) -> None:
        assert family("lp_x", "gauge", "x", ("model",), []) == ""

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0, "0"), (True, "1"), (2.0, "2"), (0.5, "0.5"), (1e300, "1e+300"), (math.inf, "+Inf"), (-math.inf, "-Inf")],
    )
    def test_numbers(self, value: float, text: str) -> None:
        assert number(value) == text
        assert float(text) == value


class TestReading:
    def test_what_has_the_prefix_is_read_and_nothing_else(self) -> None:
        assert read(PAGE.encode(), "llamacpp:") == [
            Reading("prompt_tokens_total", "counter", "Number of prompt tokens", 12),
            Reading("requests_processing", "gauge", "", 2.5),
        ]
        assert read(PAGE.encode(), "nobody:") == []
        assert read(b"", "llamacpp:") == []

    @pytest.mark.parametrize("value", ["nan", "-nan", "inf", "+Inf"])
    def test_number_that_is_none_is_left_out(self, value: str) -> None:
        page = f"# TYPE llamacpp:a gauge\nllamacpp:a {value}\n"
        assert read(page.encode(), "llamacpp:") == []

    def test_without_a_kind_it_is_left_out(self) -> None:
        assert read(b"llamacpp:a 1\n", "llamacpp:") == []

    @pytest.mark.parametrize(
        "page",
        [
            b"<html>",
            b"\xff\xfe",
            b"# TYPE llamacpp:a gauge\nllamacpp:a",
            b"# TYPE llamacpp:a gauge\nllamacpp:a one",
            b"# TYPE llamacpp:a gauge\nllamacpp:a 1_0",
            b"# TYPE llamacpp:a gauge\nllamacpp:a 1\nllamacpp:a 2",
            b"# TYPE llamacpp:A gauge\nllamacpp:A 1",
            b"# TYPE llamacpp:" + b"a" * 65 + b" gauge\nllamacpp:" + b"a" * 65 + b" 1",
            b"llamacpp:a 1\n" * (MOST_LINES + 1),
            b"".join(b"# TYPE llamacpp:a%d gauge\nllamacpp:a%d 1\n" % (n, n) for n in range(MOST_READINGS + 1)),
        ],
    )
    def test_page_that_is_none_is_refused(self, page: bytes) -> None:
        with pytest.raises(Malformed):
            read(page, "llamacpp:")

    @given(st.binary(max_size=300) | st.text(alphabet='llamacpp:#TYPEgu_ {}="1.e\n', max_size=300).map(str.encode))
    def test_nothing_else_is_raised(self, page: bytes) -> None:
        try:
            read(page, "llamacpp:")
        except Malformed:
            return

    def test_long_help_is_cut(self) -> None:
        page = f"# HELP llamacpp:a {'h' * 5000}\n# TYPE llamacpp:a gauge\nllamacpp:a 1\n"
        assert len(read(page.encode(), "llamacpp:")[0].help) == 256
