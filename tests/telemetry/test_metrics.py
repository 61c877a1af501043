"""llamaproxy.telemetry.metrics: counters and histograms, as Prometheus' own parser reads them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from llamaproxy.telemetry.metrics import counters, histograms


def values(text: str) -> dict[str, float]:
    """By name and values of the labels, with blanks between."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for found in text_string_to_metric_families(text)
        for sample in found.samples
    }


def test_counter_is_there_from_its_first_question() -> None:
    family = counters("lp_x_total", "x", "model", "kind")
    assert family.text() == ""
    family.child("m", "a").value += 2
    family.child("m", "b")
    assert family.child("m", "a") is family.child("m", "a")
    assert values(family.text()) == {"lp_x_total m a": 2, "lp_x_total m b": 0}


def test_labels_are_as_many_as_the_family_has() -> None:
    with pytest.raises(ValueError, match="argument"):
        counters("lp_x_total", "x", "model").child("a", "b")


def test_histogram_counts_what_is_at_most_its_bound() -> None:
    child = histograms("lp_s", "s", (0.1, 1, 10), "model").child('50 %s "m"')
    for seconds in (0.1, 0.10001, 1, 11):
        child.observe(seconds)
    found = values("# TYPE lp_s histogram\n" + child.text())
    name = '50 %s "m"'
    assert [found[f"lp_s_bucket {name} {bound}"] for bound in ("0.1", "1", "10", "+Inf")] == [1, 3, 3, 4]
    assert found[f"lp_s_count {name}"] == 4
    assert found[f"lp_s_sum {name}"] == pytest.approx(12.20001)


@given(st.lists(st.floats(0, 1000)))
def test_histogram_is_whole(observed: list[float]) -> None:
    family = histograms("lp_s", "s", (0.5, 5, 50))
    for value in observed:
        family.child().observe(value)
    found = values(family.text())
    for bound in (0.5, 5, 50):
        expected = sum(value <= bound for value in observed)
        assert found.get(f"lp_s_bucket {bound:g}", 0) == expected
    assert found.get("lp_s_count", 0) == found.get("lp_s_bucket +Inf", 0) == len(observed)


@given(st.lists(st.one_of(st.floats(0, 100), st.sampled_from((0.5, 5.0, 50.0)))))
@example([0.5, 5.0, 50.0])
def test_many_at_once_are_what_they_are_one_by_one(observed: list[float]) -> None:
    one, all_ = (histograms("lp_s", "s", (0.5, 5, 50)).child() for _ in range(2))
    for value in sorted(observed):
        one.observe(value)
    all_.observe_all(observed)
    assert values(all_.text()) == pytest.approx(values(one.text()))


def test_children_that_are_not_wanted_are_forgotten() -> None:
    family = counters("lp_x_total", "x", "model", "kind")
    for model in "abc":
        family.child(model, "k").value += 1
    family.keep("model", lambda name: name in "ac")
    family.keep("key", lambda name: False)
    assert values(family.text()) == {"lp_x_total a k": 1, "lp_x_total c k": 1}


def test_page_of_a_histogram_is_never_an_old_one() -> None:
    child = histograms("h", "", (1,)).child()
    child.observe(0.5)
    assert child.text().endswith("h_sum 0.5\nh_count 1\n")
    child.observe(2)
    assert child.text().endswith("h_sum 2.5\nh_count 2\n")
    child.observe_all([0.25, 4])
    assert child.text().endswith("h_sum 6.75\nh_count 4\n")
