"""llamaproxy.telemetry.spool: rows wait in order, and never too many."""

from llamaproxy.telemetry.spool import Spool
from tests.telemetry.rows import ended


def filled(count: int, most: int = 100) -> Spool:
    spool = Spool(most)
    for number in range(count):
        spool.put(ended(number))
    return spool


def numbers(spool: Spool) -> list[int]:
    return [row.number for row in spool]


def test_first_in_first_out() -> None:
    spool = filled(5)
    assert [row.number for row in spool.take(2)] == [0, 1]
    spool.done()
    assert [row.number for row in spool.take(9)] == [2, 3, 4]
    spool.done()
    assert (len(spool), spool.take(9)) == (0, [])


def test_what_is_taken_waits_until_it_is_done_and_is_the_same_again() -> None:
    spool = filled(3)
    first = spool.take(2)
    spool.put(ended(3))
    assert (len(spool), numbers(spool)) == (4, [0, 1, 2, 3])
    assert spool.take(100) == first


def test_oldest_that_is_not_being_written_goes_for_the_newest() -> None:
    spool = filled(3, most=3)
    spool.take(1)
    dropped = spool.put(ended(3))
    assert dropped is not None
    assert (dropped.number, numbers(spool), spool.lost) == (1, [0, 2, 3], 1)


def test_nothing_is_lost_below_the_bound() -> None:
    assert filled(100).lost == 0
    assert filled(105).lost == 5
