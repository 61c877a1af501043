"""Bars of what was measured, as an SVG that is read by people: in light and in dark, without fonts or scripts. Pure."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.figures import Summary, number

WIDTH = 720
_NAMES, _LABELS = 190, 130
_BAR, _GAP, _TITLE, _MARGIN = 16, 6, 34, 12
_OURS = "llamaproxy"

_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-weight:600}.n{fill:#59636e}"
    ".b{fill:#8c959f}.o{fill:#0969da}"
    "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.n{fill:#9198a1}.b{fill:#656c76}.o{fill:#4493f8}}"
)

Panel = tuple[str, Sequence[Summary]]
"""A title with its unit, and what to draw below it."""


def draw(panels: Sequence[Panel], note: str) -> str:
    """One panel below the other, each with a scale of its own; `note` says what machine it was."""
    parts, top = [], _MARGIN
    for title, summaries in panels:
        parts.append(_panel(title, summaries, top))
        top += _TITLE + len(summaries) * (_BAR + _GAP)
    height = top + _TITLE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' role="img"><style>{_STYLE}</style>\n' + "".join(parts) + _text(_MARGIN, top + 20, note, "n") + "</svg>\n"
    )


def _panel(title: str, summaries: Sequence[Summary], top: int) -> str:
    most = max((one.least for one in summaries), default=0.0)
    lines = [_text(_MARGIN, top + 20, title, "t")]
    for index, one in enumerate(summaries):
        lines.append(_row(one, most, top + _TITLE - 4 + index * (_BAR + _GAP)))
    return "".join(lines)


def _row(one: Summary, most: float, top: int) -> str:
    room = WIDTH - _NAMES - _LABELS
    length = max(1.0, room * max(0.0, one.least) / most) if most > 0 else 1.0
    kind = "o" if one.candidate.startswith(_OURS) else "b"
    bar = f'<rect class="{kind}" x="{_NAMES}" y="{top}" width="{length:.1f}" height="{_BAR}" rx="2"/>\n'
    label = f"{number(one.least)} ({number(one.median)})"
    name = _text(_MARGIN, top + 13, one.candidate, "n")
    return name + bar + _text(_NAMES + length + 6, top + 13, label, "n")


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>\n'
