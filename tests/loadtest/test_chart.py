"""llamaproxy.loadtest.chart: an SVG that any reader takes, whatever was measured."""

from xml.etree import ElementTree

import pytest

from llamaproxy.loadtest import chart
from llamaproxy.loadtest.figures import summarise
from llamaproxy.loadtest.plan import Level
from llamaproxy.loadtest.sweep import Step
from llamaproxy.loadtest.target import Target
from tests.loadtest.test_figures import bad, good


def step(url: str = "http://a", clients: int = 1, fault: str = "") -> Step:
    answer = bad(fault) if fault else good(0.0, 2.0, first=0.5, gaps=(0.1,) * 10)
    return Step(Target(url, "m"), Level(clients, 128, 64), summarise([answer]), 0.1)


def drawn(*steps: Step, note: str = "note") -> tuple[list[str], list[str]]:
    """Texts, and the classes of the bars."""
    root = ElementTree.fromstring(chart.draw(steps, note))
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text or "" for text in root.iter(f"{space}text")]
    return texts, [bar.get("class") or "" for bar in root.iter(f"{space}rect")]


def test_a_panel_for_every_figure_and_a_bar_for_every_step() -> None:
    texts, bars = drawn(step(), step(clients=8))
    assert texts[0] == "note"
    assert "Time to first token, median, ms" in texts
    assert texts.count("8 clients, 128 → 64 tokens") == texts.count("1 client, 128 → 64 tokens") == 5
    assert bars == ["a"] * 10


def test_two_servers_have_two_colours_and_a_legend() -> None:
    texts, bars = drawn(step(), step("http://b"))
    assert texts[1:3] == ["http://a", "http://b"]
    assert bars == ["a", "b"] * 6


def test_figures_that_nobody_has_are_not_drawn() -> None:
    texts, _ = drawn(step(fault="x"))
    assert "Requests that failed" in texts
    assert "Time to first token, median, ms" not in texts


def test_one_of_two_may_have_none() -> None:
    texts, _ = drawn(step(), step("http://b", fault="x"))
    assert "-" in texts


def test_names_do_not_break_it() -> None:
    texts, _ = drawn(step("http://a?<&>"), step("http://b"), note='<script>"&')
    assert texts[0] == '<script>"&'


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1,234"), (12.34, "12.3"), (1.234, "1.23"), (0.0, "0.00")])
def test_numbers_have_the_digits_that_mean_something(value: float, text: str) -> None:
    assert chart.number(value) == text
