"""The figures of a load test as an SVG, for light and dark, without fonts or scripts. Pure."""

from collections.abc import Callable, Iterator, Sequence
from xml.sax.saxutils import escape

from llamaproxy.loadtest.figures import Spread
from llamaproxy.loadtest.sweep import Step

WIDTH = 760
_NAMES, _LABELS = 220, 110
_BAR, _GAP, _HEAD, _MARGIN = 14, 4, 34, 12
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1f2328}.t{font-weight:600}.n{fill:#59636e}"
    ".a{fill:#0969da}.b{fill:#bc4c00}"
    "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.n{fill:#9198a1}.a{fill:#4493f8}.b{fill:#f0883e}}"
)

Value = Callable[[Step], float | None]


def _p50(spread: Spread | None) -> float | None:
    return None if spread is None else 1000 * spread.p50


def _p95(spread: Spread | None) -> float | None:
    return None if spread is None else 1000 * spread.p95


_PANELS: tuple[tuple[str, Value], ...] = (
    ("Tokens per second, all clients together", lambda step: step.figures.tokens_per_second),
    ("Time to first token, median, ms", lambda step: _p50(step.figures.first)),
    ("Time to first token, 95th percentile, ms", lambda step: _p95(step.figures.first)),
    ("Between two tokens, median, ms", lambda step: _p50(step.figures.gap)),
    ("Whole answer, median, ms", lambda step: _p50(step.figures.whole)),
    ("Requests that failed", lambda step: float(step.figures.failed) or None),
)


def draw(steps: Sequence[Step], note: str) -> str:
    """A panel for each figure that anybody has, with a bar for each step; targets differ in colour."""
    addresses = list(dict.fromkeys(step.target.url for step in steps))
    lines = [_text(_MARGIN, _MARGIN + 12, note, "n")]
    top = _MARGIN + 24
    for index, address in enumerate(addresses if len(addresses) > 1 else ()):
        lines += [_rect(_kind(index), _MARGIN, top, 12), _text(_MARGIN + 18, top + 11, address, "n")]
        top += _BAR + _GAP
    for title, value in _PANELS:
        if any(value(step) is not None for step in steps):
            lines += _panel(title, [(step, value(step)) for step in steps], addresses, top)
            top += _HEAD + len(steps) * (_BAR + _GAP)
    height = top + _MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f'{head} role="img"><style>{_STYLE}</style>\n{"".join(lines)}</svg>\n'


def _panel(title: str, rows: Sequence[tuple[Step, float | None]], addresses: Sequence[str], top: int) -> Iterator[str]:
    yield _text(_MARGIN, top + 22, title, "t")
    most = max((value for _, value in rows if value is not None), default=0.0)
    for index, (step, value) in enumerate(rows):
        at = top + _HEAD - 4 + index * (_BAR + _GAP)
        level = step.level
        yield _text(
            _MARGIN, at + 11, f"{clients(level.clients)}, {level.prompt_tokens} → {level.output_tokens} tokens", "n"
        )
        length = (WIDTH - _NAMES - _LABELS) * (value or 0.0) / most if most > 0 else 0.0
        yield _rect(_kind(addresses.index(step.target.url)), _NAMES, at, max(1.0, length))
        yield _text(_NAMES + max(1.0, length) + 6, at + 11, "-" if value is None else number(value), "n")


def number(value: float) -> str:
    """With as many digits as mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


def _kind(index: int) -> str:
    return "ab"[index % 2]


def _rect(kind: str, x: float, y: float, width: float) -> str:
    return f'<rect class="{kind}" x="{x:.0f}" y="{y:.0f}" width="{width:.1f}" height="{_BAR - 2}" rx="2"/>\n'


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>\n'
