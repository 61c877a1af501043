"""llamaproxy.backends.ports: a port that an engine can bind."""

import random
import socket

import pytest

from llamaproxy.backends.ports import FIRST, LAST, free_port


def test_it_lies_below_the_ephemeral_range_and_above_the_well_known_ones() -> None:
    assert 1024 <= FIRST < LAST < 32768
    assert all(FIRST <= free_port() <= LAST for _ in range(50))


def test_it_can_be_bound_on_loopback() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
        listener.listen()


def test_it_is_not_always_the_same_so_that_two_spawns_seldom_meet() -> None:
    assert len({free_port() for _ in range(20)}) > 10


def test_a_taken_port_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        taken = free_port()
        listener.bind(("127.0.0.1", taken))
        listener.listen()
        free = taken + 1 if taken < LAST else taken - 1
        monkeypatch.setattr(random, "sample", lambda *_: [taken, free])
        assert free_port() == free


def test_none_free_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        taken = free_port()
        listener.bind(("127.0.0.1", taken))
        listener.listen()
        monkeypatch.setattr(random, "sample", lambda *_: [taken])
        with pytest.raises(OSError, match=f"no free port between {FIRST} and {LAST}"):
            free_port()
