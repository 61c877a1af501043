"""bench.scrape: that what is measured is a page of models in use."""

from bench.scrape import Busy, measure, report


def test_every_model_is_on_the_page() -> None:
    few, many = measure(Busy(1).page)[2], measure(Busy(11).page)[2]
    assert many - few > 10 * 100


def test_use_changes_the_page() -> None:
    busy = Busy(1)
    before = "".join(busy.page.families())
    busy.use()
    assert "".join(busy.page.families()) != before


def test_report_tells_how_many_lines_there_are() -> None:
    busy = Busy(1)
    assert f": {measure(busy.page)[2]} lines, " in report("x", busy, busy.use, pages=3)
