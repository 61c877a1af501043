"""Tables for people: columns as wide as what stands in them.

Pure. What comes from outside is made harmless for a terminal here, whoever prints it.
"""

from collections.abc import Iterable, Sequence

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lines with two blanks between the columns; nothing is shown as `-`."""
    lines = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def harmless(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def duration(seconds: float | None) -> str | None:
    """Two units at most: `45s`, `3m12s`, `2d4h`."""
    if seconds is None:
        return None
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    first = next((at for at, (value, _) in enumerate(parts) if value), len(parts) - 1)
    return "".join(f"{value}{unit}" for value, unit in parts[first : first + 2] if value or unit == "s")


def size(count: int | None) -> str | None:
    """Bytes with the unit that makes them short."""
    if count is None:
        return None
    value, power = float(count), 0
    while value >= 1024 and power < len(_UNITS) - 1:
        value, power = value / 1024, power + 1
    return f"{value:.1f} {_UNITS[power]}" if power else f"{count} B"


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else harmless(str(value))
