"""What real engines sent (`record.py` says how it was recorded), and ways to cut it into pieces."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from llamaproxy.core.routing import ENDPOINTS, Dialect

FOLDER = Path(__file__).parent / "recordings"


@dataclass(frozen=True)
class Recording:
    """One answer, and what the engine's counters rose by meanwhile; `left`: the client left before its end."""

    name: str
    content: bytes
    dialect: Dialect
    stream: bool
    left: bool
    counters: dict[str, int] | None

    @property
    def raw(self) -> bytes:
        """With the framing of its chunks, of the few that have it."""
        return (FOLDER / f"{self.name}.raw").read_bytes()


def _load() -> Iterator[Recording]:
    index: dict[str, dict[str, Any]] = json.loads((FOLDER / "index.json").read_text("utf-8"))
    for name, entry in index.items():
        content = (FOLDER / f"{name}.txt").read_bytes()
        dialect = ENDPOINTS[entry["path"]].dialect
        yield Recording(name, content, dialect, entry["stream"], entry["left"], entry["counters"])


ALL = {recording.name: recording for recording in _load()}
STREAMS = [recording for recording in ALL.values() if recording.stream]
FRAMED = [recording for recording in ALL.values() if (FOLDER / f"{recording.name}.raw").exists()]

CUTS = st.lists(st.integers(0, 10_000), max_size=12)
"""Where to cut, in any order and modulo the length."""


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def single(data: bytes) -> list[bytes]:
    """Byte by byte."""
    return [data[at : at + 1] for at in range(len(data))]
