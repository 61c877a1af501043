"""llamaproxy.telemetry.host: this machine, and one that is played where its numbers matter."""

import os
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from llamaproxy.telemetry import host
from llamaproxy.telemetry.host import Looker

Times = namedtuple("Times", "user system idle iowait guest guest_nice")


class Machine:
    """One with two cores, whose numbers a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.cores = [Times(10.0, 5.0, 80.0, 5.0, 0.0, 0.0)] * 2
        self.network = {"eth0": (1000, 100), "lo": (9e9, 9e9)}
        monkeypatch.setattr(psutil, "cpu_times", self._cpu_times)
        monkeypatch.setattr(psutil, "net_io_counters", self._network)

    def __call__(self) -> float:
        return self.now

    def _cpu_times(self, percpu: bool) -> list[Any]:
        assert percpu
        return self.cores

    def _network(self, pernic: bool) -> dict[str, Any]:
        assert pernic
        return {name: SimpleNamespace(bytes_recv=got, bytes_sent=sent) for name, (got, sent) in self.network.items()}

    def work(self, core: int, user: float = 0, idle: float = 0, iowait: float = 0, guest: float = 0) -> None:
        """A core's time passes. That of a guest is a user's, too."""
        old = self.cores[core]
        new = old._replace(
            user=old.user + user + guest, idle=old.idle + idle, iowait=old.iowait + iowait, guest=old.guest + guest
        )
        self.cores = [*self.cores[:core], new, *self.cores[core + 1 :]]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_this_machine_is_plausible() -> None:
    looker = Looker()
    first, second = looker.look(), looker.look()
    assert (first.cpu_percent, first.received_rate, first.process.cpu_percent) == (None, None, None)
    assert len(second.cores) == psutil.cpu_count()
    assert second.cpu_percent is not None
    assert 0 <= second.cpu_percent <= 100
    assert 0 < second.memory_used < second.memory_total
    assert second.memory_used + second.memory_available == second.memory_total
    assert second.process.memory > 1024**2
    assert second.process.threads >= 1
    assert len(second.load) == 3


def test_use_of_cores_is_that_since_the_look_before(machine: Machine) -> None:
    looker = Looker(machine)
    looker.look()
    machine.work(0, user=1, idle=3)
    machine.work(1, user=0, idle=2, iowait=2)
    assert looker.look().cores == (25, 0), "who waits for a disk is not busy"
    machine.work(0, user=1, guest=1, idle=2)
    machine.work(1, user=4)
    seen = looker.look()
    assert (seen.cores, seen.cpu_percent) == ((50, 100), 75)


def test_counters_that_go_back_are_no_work(machine: Machine) -> None:
    looker = Looker(machine)
    looker.look()
    machine.work(0, user=-1, idle=-1)
    machine.network["eth0"] = (0, 0)
    machine.now += 1
    seen = looker.look()
    assert (seen.cores[0], seen.received_rate, seen.sent_rate) == (0, 0, 0)


def test_core_that_comes_makes_no_nonsense(machine: Machine) -> None:
    looker = Looker(machine)
    looker.look()
    machine.cores = [*machine.cores, machine.cores[0]]
    seen = looker.look()
    assert (seen.cores, seen.cpu_percent) == ((), None)


def test_network_is_bytes_a_second_without_loopback(machine: Machine) -> None:
    looker = Looker(machine)
    looker.look()
    machine.now += 2
    machine.network |= {"eth0": (5000, 300), "lo": (10e9, 10e9)}
    seen = looker.look()
    assert (seen.received, seen.sent, seen.received_rate, seen.sent_rate) == (5000, 300, 2000, 100)


def test_disk(tmp_path: Path) -> None:
    found = host.disk(tmp_path)
    status = os.statvfs(tmp_path)
    assert (found.path, found.total) == (str(tmp_path), status.f_blocks * status.f_frsize)
    assert 0 < found.free <= found.total
    with pytest.raises(OSError, match="no-such"):
        host.disk(tmp_path / "no-such")
