from bench import meter
from bench.meter import Line, lines, table, turn


def test_every_line_can_be_measured() -> None:
    for line in lines():
        assert turn(Line(line.name, line.piece, line.consumer, count=8)) >= 0


def test_the_table_has_the_quickest_turn_and_the_median() -> None:
    line = Line("chat", b"x" * 237, meter.large_body)
    assert table([(line, [3.0, 1.0, 2.0])])[1].split() == ["chat", "237", "1.00", "2.00"]
