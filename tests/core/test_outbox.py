"""llamaproxy.core.outbox: what waits for one page, within its bounds."""

from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.core.outbox import Outbox


def test_order() -> None:
    box = Outbox()
    assert box.offer(b"a") and box.offer(b"b")
    assert [box.take(), box.take(), box.take()] == [b"a", b"b", None]


def test_what_finds_no_room_is_counted() -> None:
    box = Outbox(most_frames=2)
    assert [box.offer(frame) for frame in (b"a", b"b", b"c")] == [True, True, False]
    assert box.dropped == 1
    assert box.take() == b"a"
    assert box.offer(b"d")


def test_bytes_are_bounded_too() -> None:
    box = Outbox(most_bytes=4)
    assert [box.offer(frame) for frame in (b"abc", b"de", b"f")] == [True, False, True]


def test_one_that_is_alone_finds_room() -> None:
    assert Outbox(most_bytes=1).offer(b"large")


def test_what_is_owed_is_never_dropped() -> None:
    box = Outbox(most_frames=1)
    box.offer(b"a")
    box.owe(b"answer")
    assert (len(box), box.dropped) == (2, 0)


@given(st.lists(st.one_of(st.binary(max_size=9), st.none()), max_size=60))
def test_bounds_hold_and_nothing_is_lost_untold(steps: list[bytes | None]) -> None:
    """None is a frame taken."""
    box, model = Outbox(most_frames=4, most_bytes=12), list[bytes]()
    dropped = 0
    for frame in steps:
        if frame is None:
            assert box.take() == (model.pop(0) if model else None)
        elif box.offer(frame):
            model.append(frame)
        else:
            dropped += 1
        assert len(box) == len(model) <= 4
        assert len(model) <= 1 or sum(map(len, model)) <= 12
        assert box.dropped == dropped
