"""From answers to figures. Pure.

Times and tokens are those of whole answers only; a server that fails half of its requests is not quick for that.
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llamaproxy.loadtest.answer import Answer

MOST_FAULTS = 20
"""Kinds that are told apart."""
_OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles, in seconds."""

    p50: float
    p95: float
    p99: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        ordered = sorted(values)
        if not ordered:
            return None
        ranks = (max(0, math.ceil(share * len(ordered)) - 1) for share in (0.5, 0.95, 0.99, 1.0))
        return cls(*(ordered[rank] for rank in ranks))

    def described(self) -> dict[str, float]:
        named = {"p50": self.p50, "p95": self.p95, "p99": self.p99, "max": self.most}
        return {name: round(1000 * value, 3) for name, value in named.items()}


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one step. `seconds` from its first request to its last answer, `first` to the first token, `gap` between two.

    `told`: the server counted the tokens of every answer. `each` is the median speed of one answer behind its first
    token, `prompt_tokens` that of the prompts' lengths.
    """

    requests: int
    faults: Mapping[str, int]
    seconds: float
    tokens: int
    told: bool
    prompt_tokens: float | None
    first: Spread | None
    gap: Spread | None
    whole: Spread | None
    each: float | None

    @property
    def failed(self) -> int:
        return sum(self.faults.values())

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def requests_per_second(self) -> float:
        return (self.requests - self.failed) / self.seconds if self.seconds > 0 else 0.0

    def described(self) -> dict[str, Any]:
        """For programs: milliseconds, and null for what was not measured."""
        spreads = {"ttft_ms": self.first, "inter_token_ms": self.gap, "latency_ms": self.whole}
        return {
            "requests": self.requests,
            "failed": self.failed,
            "faults": dict(self.faults),
            "seconds": round(self.seconds, 3),
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.tokens,
            "tokens_told_by_server": self.told,
            "tokens_per_second": round(self.tokens_per_second, 2),
            "tokens_per_second_each": self.each and round(self.each, 2),
            "requests_per_second": round(self.requests_per_second, 3),
            **{name: spread and spread.described() for name, spread in spreads.items()},
        }


def summarise(answers: Sequence[Answer]) -> Figures:
    good = [answer for answer in answers if not answer.fault]
    begun = min((answer.begun for answer in answers), default=0.0)
    ended = max((answer.ended for answer in answers), default=0.0)
    prompts = [answer.usage.prompt for answer in good if answer.usage.prompt is not None]
    return Figures(
        requests=len(answers),
        faults=_faults(answer.fault for answer in answers if answer.fault),
        seconds=ended - begun,
        tokens=sum(answer.usage.completion for answer in good),
        told=all(answer.usage.exact for answer in good),
        prompt_tokens=statistics.median(prompts) if prompts else None,
        first=Spread.of(answer.first for answer in good if answer.first is not None),
        gap=Spread.of(gap for answer in good for gap in answer.gaps),
        whole=Spread.of(answer.seconds for answer in good),
        each=_median_speed(good),
    )


def _faults(said: Iterable[str]) -> dict[str, int]:
    """Most frequent first; a server that never says the same twice fills no screen."""
    counted = Counter(said).most_common()
    shown = dict(counted[:MOST_FAULTS])
    if rest := sum(count for _, count in counted[MOST_FAULTS:]):
        shown[_OTHERS] = rest
    return shown


def _median_speed(answers: Iterable[Answer]) -> float | None:
    speeds = [(one.usage.completion - 1) / one.generating for one in answers if one.generating > 0]
    return statistics.median(speeds) if speeds else None
