"""How much memory a backend takes, as a value, and how what is known of it grows.

Pure. Where the figures come from is no matter here: `models.footprint` estimates, `backends.memory` measures.
"""

from dataclasses import dataclass

_RAISE = 1.25
"""What a footprint is multiplied by when a process has died of it."""

_LARGEST = 2**53
"""Bytes. No budget is larger, and a footprint that is raised again and again need not be either."""


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


def raised(footprint: Footprint) -> Footprint:
    """What to reckon with after a death for want of memory: a quarter more."""
    return Footprint(_raised(footprint.ram), tuple(map(_raised, footprint.devices)))


def _raised(part: int) -> int:
    return min(_LARGEST, int(part * _RAISE))


def _padded(values: tuple[int, ...], width: int) -> tuple[int, ...]:
    return values + (0,) * (width - len(values))
