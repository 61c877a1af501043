"""llamaproxy.telemetry.gpu: what drivers tell. NVIDIA's is played as NVML answers, AMD's as a tree of its files."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from llamaproxy.telemetry.gpu import Gpu, NoGpu, amd, nvidia

WHOLE: dict[str, Callable[..., Any]] = {
    "Name": lambda handle: "NVIDIA H200",
    "MemoryInfo": lambda handle: SimpleNamespace(used=3 * 2**30, total=140 * 2**30),
    "UtilizationRates": lambda handle: SimpleNamespace(gpu=87, memory=10),
    "Temperature": lambda handle, sensor: 41 if sensor == pynvml.NVML_TEMPERATURE_GPU else 0,
    "PowerUsage": lambda handle: 123_456,
    "EnforcedPowerLimit": lambda handle: 700_000,
    "ClockInfo": lambda handle, clock: {pynvml.NVML_CLOCK_SM: 1980, pynvml.NVML_CLOCK_MEM: 3201}[clock],
    "FanSpeed": lambda handle: 30,
}


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: object) -> Any:
        raise pynvml.NVMLError(code)

    return fail


def install(monkeypatch: pytest.MonkeyPatch, devices: int = 1, **answers: Callable[..., Any]) -> None:
    """A driver with so many devices; handles are their numbers."""
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: devices)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    for name, answer in {**WHOLE, **answers}.items():
        monkeypatch.setattr(pynvml, f"nvmlDeviceGet{name}", answer)


class TestNvidia:
    def test_everything_that_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch)
        assert nvidia() == (
            Gpu(0, "nvidia", "NVIDIA H200", 87, 3 * 2**30, 140 * 2**30, 41, 123.456, 700.0, 1980, 3201, 30),
        )

    def test_all_of_them_in_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, 3, Name=lambda handle: b"card %d" % handle)
        assert [(gpu.index, gpu.name) for gpu in nvidia()] == [(0, "card 0"), (1, "card 1"), (2, "card 2")]

    def test_what_a_device_does_not_have_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        missing = failing(pynvml.NVML_ERROR_NOT_SUPPORTED)
        install(monkeypatch, FanSpeed=missing, UtilizationRates=missing)
        (found,) = nvidia()
        assert (found.fan, found.utilization, found.temperature) == (None, None, 41)

    def test_lost_device_is_still_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lost = failing(pynvml.NVML_ERROR_GPU_IS_LOST)
        install(monkeypatch, 1, **dict.fromkeys(WHOLE, lost))
        assert nvidia() == (Gpu(0, "nvidia", "unknown"),)

    def test_why_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pynvml, "nvmlInit", failing(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
        with pytest.raises(NoGpu, match="no NVIDIA driver is installed"):
            nvidia()


def card(drm: Path, number: int, vendor: str = "0x1002", hwmon: dict[str, str] | None = None, **files: str) -> None:
    device = drm / f"card{number}" / "device"
    sensors = device / "hwmon" / "hwmon4"
    sensors.mkdir(parents=True)
    for name, text in {"vendor": vendor, "device": "0x744c", **files}.items():
        (device / name).write_text(f"{text}\n")
    for name, text in (hwmon or {}).items():
        (sensors / name).write_text(f"{text}\n")


class TestAmd:
    def test_everything_that_is_told(self, tmp_path: Path) -> None:
        sensors = {
            **{"temp1_input": "45000", "power1_average": "31000000", "power1_cap": "303000000"},
            **{"freq1_input": "2304000000", "freq2_input": "1249000000", "pwm1": "51"},
        }
        card(
            *(tmp_path, 1, "0x1002", sensors),
            product_name="Radeon RX 7900 XTX",
            gpu_busy_percent="17",
            mem_info_vram_used="1073741824",
            mem_info_vram_total="25753026560",
        )
        assert amd(tmp_path) == (
            Gpu(0, "amd", "Radeon RX 7900 XTX", 17, 2**30, 25753026560, 45, 31, 303, 2304, 1249, 20),
        )

    def test_other_cards_and_connectors_are_none(self, tmp_path: Path) -> None:
        card(tmp_path, 0, vendor="0x8086")
        (tmp_path / "card10-HDMI-A-1").mkdir()
        (tmp_path / "renderD128").mkdir()
        card(tmp_path, 10, gpu_busy_percent="2")
        card(tmp_path, 9, gpu_busy_percent="1")
        assert [(gpu.index, gpu.name, gpu.utilization) for gpu in amd(tmp_path)] == [
            (0, "AMD GPU 0x744c", 1),
            (1, "AMD GPU 0x744c", 2),
        ]

    def test_newer_kernels_tell_the_power_elsewhere(self, tmp_path: Path) -> None:
        card(tmp_path, 0, hwmon={"power1_input": "55000000"})
        assert amd(tmp_path)[0].power == 55

    @pytest.mark.parametrize("text", ["", "N/A", "1e3", "9" * 5000, "\xb2", "1 2"])
    def test_nonsense_is_none(self, text: str, tmp_path: Path) -> None:
        card(tmp_path, 0, gpu_busy_percent=text, hwmon={"temp1_input": text})
        (found,) = amd(tmp_path)
        assert (found.utilization, found.temperature) == (None, None)

    def test_file_without_an_end_is_not_read_to_it(self, tmp_path: Path) -> None:
        card(tmp_path, 0)
        (tmp_path / "card0" / "device" / "product_name").symlink_to("/dev/zero")
        assert len(amd(tmp_path)[0].name) <= 200

    def test_why_there_is_none(self, tmp_path: Path) -> None:
        for drm in (tmp_path, tmp_path / "no-such"):
            with pytest.raises(NoGpu, match="no AMD GPU"):
                amd(drm)
