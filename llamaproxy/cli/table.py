"""Tables for people: columns as wide as what stands in them.

Pure. What comes from outside is made harmless for a terminal here, whoever prints it.
"""

from collections.abc import Iterable, Sequence

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_BETWEEN = "  "
_LEAST = 12
"""Columns that any cell may take, however narrow the terminal is."""
_GREEN, _YELLOW, _RED = 32, 33, 31
_COLOURS = {
    **dict.fromkeys(("ready", "ok"), _GREEN),
    **dict.fromkeys(("starting", "draining", "stopping", "degraded", "half_open", "warning"), _YELLOW),
    **dict.fromkeys(("open", "broken"), _RED),
}


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], width: int | None = None, coloured: bool = False
) -> str:
    """Lines with two blanks between the columns; nothing is shown as `-`.

    Within `width` no cell takes more than a third, and the last columns are left out: the first tell most.
    """
    lines = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = _fitting([max(len(line[column]) for line in lines) for column in range(len(head))], width)
    return "\n".join(_line(line, widths, coloured) for line in lines)


def _fitting(widths: list[int], limit: int | None) -> list[int]:
    if limit is None:
        return widths
    kept = [min(width, max(_LEAST, limit // 3)) for width in widths]
    while len(kept) > 1 and sum(kept) + len(_BETWEEN) * (len(kept) - 1) > limit:
        kept.pop()
    return kept


def _line(cells: Sequence[str], widths: Sequence[int], coloured: bool) -> str:
    shown = (_clipped(cell, width) for cell, width in zip(cells, widths, strict=False))
    text = _BETWEEN.join(_painted(cell, cell.ljust(width), coloured) for cell, width in zip(shown, widths, strict=True))
    return text.rstrip()


def _clipped(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: width - 1] + "…"


def _painted(cell: str, padded: str, coloured: bool) -> str:
    """By the first word of the cell."""
    colour = _COLOURS.get(cell.partition(" ")[0])
    return f"\x1b[{colour}m{cell}\x1b[0m{padded[len(cell) :]}" if coloured and colour else padded


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
