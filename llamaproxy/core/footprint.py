"""How much memory a backend takes, as a value, and how what is known of it grows.

Pure. Where the figures come from is no matter here: `models.footprint` estimates, `backends.memory` measures.
"""

from dataclasses import dataclass

from llamaproxy.config import LimitsConfig

_RAISE = 1.25
"""What a footprint is multiplied by when a process has died of it."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that one backend takes: of RAM, and of each device in the driver's order."""

    ram: int = 0
    devices: tuple[int, ...] = ()


def merged(known: Footprint, seen: Footprint) -> Footprint:
    """The larger of two measurements, in each part."""
    width = max(len(known.devices), len(seen.devices))
    pairs = zip(_padded(known.devices, width), _padded(seen.devices, width), strict=True)
    return Footprint(max(known.ram, seen.ram), tuple(map(max, pairs)))


def raised(footprint: Footprint, limits: LimitsConfig) -> Footprint:
    """What to reckon with after a death for want of memory: a quarter more, and not more than there is."""
    devices = tuple(int(part * _RAISE) for part in footprint.devices)
    return within(Footprint(int(footprint.ram * _RAISE), devices), limits)


def within(footprint: Footprint, limits: LimitsConfig) -> Footprint:
    """The same, and no part larger than its budget."""
    ram = min(footprint.ram, limits.memory_budget) if limits.memory_budget else footprint.ram
    budgets = limits.vram_budgets + footprint.devices[len(limits.vram_budgets) :]
    return Footprint(ram, tuple(map(min, footprint.devices, budgets)))


def _padded(values: tuple[int, ...], width: int) -> tuple[int, ...]:
    return values + (0,) * (width - len(values))
