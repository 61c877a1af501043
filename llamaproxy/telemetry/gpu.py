"""GPUs: what the drivers of NVIDIA and AMD tell of each.

Reads only, and blocks while it does: `probe` asks. A field that a device does not have is None, and never keeps the
others from being shown.
"""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pynvml

from llamaproxy import nvml

MOST = 64
"""Devices of one vendor."""
_DRM = Path("/sys/class/drm")
_AMD = "0x1002"
"""AMD's number among vendors of PCI devices."""
_LONGEST = 4096
"""Bytes that are read of a file in /sys."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """Percents from 0 to 100, memory in bytes, degrees Celsius, watts, MHz."""

    index: int
    vendor: str
    name: str
    utilization: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    temperature: float | None = None
    power: float | None = None
    power_limit: float | None = None
    clock: float | None = None
    memory_clock: float | None = None
    fan: float | None = None


class NoGpu(Exception):
    """There is none of this vendor; the message says why."""


def nvidia() -> tuple[Gpu, ...]:
    """All of NVIDIA's, in the driver's order. Raises NoGpu."""
    try:
        handles = nvml.connect()
    except nvml.NoDriver as reason:
        raise NoGpu(str(reason)) from reason
    return tuple(_of_nvml(index, handle) for index, handle in enumerate(handles[:MOST]))


def _of_nvml(index: int, handle: object) -> Gpu:
    def told(ask: Callable[..., Any], *more: object) -> Any:
        """Not every device has everything, and one may be lost."""
        try:
            return ask(handle, *more)
        except pynvml.NVMLError:
            return None

    name = told(pynvml.nvmlDeviceGetName)
    memory, use = told(pynvml.nvmlDeviceGetMemoryInfo), told(pynvml.nvmlDeviceGetUtilizationRates)
    return Gpu(
        index,
        "nvidia",
        name.decode("utf-8", "replace") if isinstance(name, bytes) else name or "unknown",
        utilization=use.gpu if use else None,
        memory_used=memory.used if memory else None,
        memory_total=memory.total if memory else None,
        temperature=told(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),
        power=_scaled(told(pynvml.nvmlDeviceGetPowerUsage), 1e-3),
        power_limit=_scaled(told(pynvml.nvmlDeviceGetEnforcedPowerLimit), 1e-3),
        clock=told(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM),
        memory_clock=told(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_MEM),
        fan=told(pynvml.nvmlDeviceGetFanSpeed),
    )


def amd(drm: Path = _DRM) -> tuple[Gpu, ...]:
    """All of AMD's that the kernel's driver shows below `drm`. Raises NoGpu.

    Source: the kernel's documentation, "GPU Power/Thermal Controls and Monitoring" of amdgpu, and its sysfs-hwmon.
    """
    cards = [card for card in _listed(drm) if re.fullmatch(r"card\d{1,4}", card.name)]
    ordered = sorted(cards, key=lambda card: int(card.name.removeprefix("card")))
    found = [card / "device" for card in ordered if _text(card / "device" / "vendor") == _AMD]
    if not found:
        raise NoGpu("the kernel shows no AMD GPU")
    return tuple(replace(_of_sysfs(device), index=index) for index, device in enumerate(found[:MOST]))


def _of_sysfs(device: Path) -> Gpu:
    sensors = next((entry for entry in _listed(device / "hwmon") if entry.name.startswith("hwmon")), device / "hwmon")
    number = _text(device / "device") or "unknown"
    power = _number(sensors / "power1_average")
    return Gpu(
        0,
        "amd",
        _text(device / "product_name") or f"AMD GPU {number}",
        utilization=_number(device / "gpu_busy_percent"),
        memory_used=_number(device / "mem_info_vram_used"),
        memory_total=_number(device / "mem_info_vram_total"),
        temperature=_scaled(_number(sensors / "temp1_input"), 1e-3),
        power=_scaled(_number(sensors / "power1_input") if power is None else power, 1e-6),
        power_limit=_scaled(_number(sensors / "power1_cap"), 1e-6),
        clock=_scaled(_number(sensors / "freq1_input"), 1e-6),
        memory_clock=_scaled(_number(sensors / "freq2_input"), 1e-6),
        fan=_scaled(_number(sensors / "pwm1"), 100 / 255),
    )


def _listed(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(folder.iterdir())
    return []


def _text(path: Path) -> str | None:
    """The first line of a small file, None where there is none that can be read, or nothing in it."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(_LONGEST).partition(b"\n")[0].decode("utf-8", "replace").strip()[:200] or None
    return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text and re.fullmatch(r"-?\d{1,18}", text, re.ASCII) else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else round(value * factor, 3)
