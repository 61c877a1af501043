"""Prometheus' text format 0.0.4: how it is written, and what of an engine's own page is read.

Pure. Source: Prometheus documentation, "Exposition formats", text-based format. Engines are not trusted: a page that
is not what the format asks for is refused as a whole.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_LINES = 4096
"""Of a page that is read."""
MOST_READINGS = 64
"""Of one engine: llama-server has 15."""

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^{}]*\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*")
_META = re.compile(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) ?(.*)")
_LONGEST_NAME, _LONGEST_HELP = 64, 256
_WORDS = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}
_KINDS = frozenset({"counter", "gauge"})

Sample = tuple[tuple[str, ...], float]
"""The values of the labels, and the value."""


class Malformed(ValueError):
    """It is no page of metrics."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One number of an engine, which has no labels; `name` without the engine's prefix, `kind` counter or gauge."""

    name: str
    kind: str
    help: str
    value: float


def escape(value: str) -> str:
    """The value of a label, as it stands between quotes."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def number(value: float) -> str:
    """As short as it can be without losing anything."""
    if type(value) is not float:
        return str(int(value))
    text = repr(value)
    return text[:-2] if text.endswith(".0") else _WORDS.get(text, text)


@lru_cache(maxsize=65_536)
def series(name: str, labels: tuple[str, ...], values: tuple[str, ...]) -> str:
    """The name of one series with its labels. They are the same in every page: a hundred models have thousands."""
    if not labels:
        return name
    pairs = ",".join([f'{label}="{escape(value)}"' for label, value in zip(labels, values, strict=True)])
    return f"{name}{{{pairs}}}"


@lru_cache(maxsize=4096)
def chosen(name: str, labels: tuple[str, ...], values: tuple[str, ...], chosen: str, of: Iterable[str]) -> str:
    """The lines of a state, told as one series for each that there is: 1 for the one that it is, else 0."""
    return "".join([f"{series(name, labels, (*values, one))} {int(one == chosen)}\n" for one in of])


def head(name: str, kind: str, about: str) -> str:
    """The two lines before the samples of a family."""
    line = about.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {line}\n# TYPE {name} {kind}\n"


def family(name: str, kind: str, about: str, labels: tuple[str, ...], samples: Iterable[Sample]) -> str:
    """All lines of a family; nothing where it has no samples."""
    lines = "".join([f"{series(name, labels, values)} {number(value)}\n" for values, value in samples])
    return head(name, kind, about) + lines if lines else ""


def read(page: bytes, prefix: str) -> list[Reading]:
    """The counters and gauges of a page whose names begin with `prefix`, which has to be there. Raises Malformed.

    Others are for others. Numbers that are none (an engine may divide by zero) are left out.
    """
    kinds: dict[str, str] = {}
    helps: dict[str, str] = {}
    found: dict[str, Reading] = {}
    for line in _lines(page):
        if line.startswith("#"):
            if meta := _META.fullmatch(line):
                (helps if meta[1] == "HELP" else kinds)[meta[2]] = meta[3]
            continue
        sample = _SAMPLE.fullmatch(line)
        if sample is None:
            raise Malformed(f"no sample: {line[:80]!r}")
        name, value = sample[1], _value(sample[3])
        if name.startswith(prefix) and not sample[2] and kinds.get(name) in _KINDS and math.isfinite(value):
            short = name.removeprefix(prefix)
            if not re.fullmatch(r"[a-z][a-z0-9_]*", short) or len(short) > _LONGEST_NAME or short in found:
                raise Malformed(f"no name of a metric, or one that was there before: {name[:80]!r}")
            found[short] = Reading(short, kinds[name], helps.get(name, "")[:_LONGEST_HELP], value)
    if len(found) > MOST_READINGS:
        raise Malformed(f"more than {MOST_READINGS} metrics")
    return list(found.values())


def _lines(page: bytes) -> list[str]:
    try:
        text = page.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("it is not UTF-8") from error
    lines = [line.strip(" \t\r") for line in text.split("\n")]
    if len(lines) > MOST_LINES:
        raise Malformed(f"more than {MOST_LINES} lines")
    return [line for line in lines if line]


def _value(text: str) -> float:
    if "_" in text:  # which Python alone takes for a part of a number
        raise Malformed(f"not a number: {text[:80]!r}")
    try:
        return float(text)
    except ValueError as error:
        raise Malformed(f"not a number: {text[:80]!r}") from error
