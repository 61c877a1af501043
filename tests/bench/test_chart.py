from xml.etree import ElementTree

from bench.chart import draw
from bench.figures import Summary

SVG = "{http://www.w3.org/2000/svg}"


def summary(candidate: str, least: float) -> Summary:
    return Summary(candidate, "us", least, least * 1.1, 3, 3, "")


def drawn(*summaries: Summary) -> ElementTree.Element:
    return ElementTree.fromstring(draw([("a title", summaries)], "a machine"))


def test_a_bar_is_as_long_as_its_minimum() -> None:
    lengths = [float(bar.get("width", "")) for bar in drawn(summary("nginx", 10), summary("b", 40)).iter(f"{SVG}rect")]
    assert lengths[1] == 4 * lengths[0]


def test_title_names_figures_and_note_are_there() -> None:
    texts = [element.text for element in drawn(summary("nginx", 10)).iter(f"{SVG}text")]
    assert texts == ["a title", "nginx", "10.0 (11.0)", "a machine"]


def test_names_cannot_become_markup() -> None:
    assert "<script>" in [element.text for element in drawn(summary("<script>", 1)).iter(f"{SVG}text")]


def test_what_adds_nothing_still_has_a_bar() -> None:
    bars = list(drawn(summary("a", -1.0), summary("b", 0.0)).iter(f"{SVG}rect"))
    assert [bar.get("width") for bar in bars] == ["1.0", "1.0"]


def test_it_is_read_in_the_dark_too() -> None:
    assert "prefers-color-scheme:dark" in draw([], "")
