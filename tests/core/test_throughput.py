"""llamaproxy.core.throughput: two looks are one speed."""

from llamaproxy.core.throughput import Throughput


def test_one_look_says_nothing() -> None:
    throughput = Throughput()
    throughput.look(100, 5.0)
    assert throughput.per_second is None


def test_the_last_two_looks_count() -> None:
    throughput = Throughput()
    for count, now in ((0, 0.0), (100, 1.0), (110, 3.0)):
        throughput.look(count, now)
    assert throughput.per_second == 5


def test_what_shrinks_has_not_grown() -> None:
    throughput = Throughput()
    for count, now in ((10, 0.0), (4, 1.0)):
        throughput.look(count, now)
    assert throughput.per_second == 0
    throughput.look(6, 2.0)
    assert throughput.per_second == 2


def test_two_looks_at_once_are_one() -> None:
    throughput = Throughput()
    for count, now in ((0, 0.0), (8, 2.0), (9, 2.0)):
        throughput.look(count, now)
    assert throughput.per_second == 4
