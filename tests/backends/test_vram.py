"""Devices and who uses them. There is no driver where this runs as a rule: it is played here, as NVML answers."""

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from llamaproxy.backends.vram import Devices


class Driver:
    """As many devices as there are tables of processes; None for a process whose memory is not told."""

    def __init__(self, *tables: dict[int, int | None]) -> None:
        self.tables = list(tables)
        self.failing = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: len(self.tables))
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", self.processes)

    def processes(self, index: int) -> list[Any]:
        if self.failing:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.tables[index].items()]


def test_no_driver_is_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    devices = Devices()
    assert len(devices) == 0
    assert devices.used({1}) == ()


def test_processes_of_a_family_are_added_up_for_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    Driver({1: 100, 2: 20, 9: 5}, {2: 3}).install(monkeypatch)
    devices = Devices()
    assert len(devices) == 2
    assert devices.used({1, 2}) == (120, 3)
    assert devices.used({9}) == (5, 0)


def test_process_that_the_driver_does_not_know_is_not_taken_for_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    Driver({1: None, 2: 20}).install(monkeypatch)
    devices = Devices()
    assert devices.used({1}) == ()
    assert devices.used({77}) == ()


def test_device_that_fails_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    (driver := Driver({1: 100})).install(monkeypatch)
    devices = Devices()
    driver.failing = True
    assert devices.used({1}) == ()
