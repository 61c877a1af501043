"""What a load test asks for: how many clients at once, how long prompts and answers are, and where it ends.

Pure. Owns the bodies of the requests; asks nobody.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST_STEPS = 200

_WORDS = "time year day way man world life hand part child eye place work week case point home water room book".split()
"""Common enough to be one token each, with the blank before it, in any vocabulary."""


@dataclass(frozen=True, slots=True)
class Level:
    """One step of a sweep."""

    clients: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A step ends after `requests`, or no request begins in it after `seconds`; each has `timeout` seconds.

    `may_stop`: the model may end its answers before `output_tokens`. `seed` makes prompts that no earlier run has sent.
    """

    clients: Sequence[int]
    prompt_tokens: Sequence[int]
    output_tokens: Sequence[int]
    requests: int
    seconds: float
    timeout: float
    warmup: int
    stream: bool
    may_stop: bool
    seed: str

    def levels(self) -> list[Level]:
        """Few clients first, of each pair of lengths."""
        lengths = itertools.product(self.prompt_tokens, self.output_tokens)
        return [Level(clients, *pair) for pair in lengths for clients in self.clients]

    def body(self, model: str, level: Level, number: int) -> dict[str, Any]:
        """A chat request. No two prompts begin alike, so that no cache of prompts makes one cheaper than the other.

        Only llama-server and vLLM know `ignore_eos`, without which answers are as long as the model likes.
        """
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt(f"{self.seed}-{number}", level.prompt_tokens)}],
            "max_tokens": level.output_tokens,
            "temperature": 0,
            "stream": self.stream,
        }
        if self.stream:
            body["stream_options"] = {"include_usage": True}
        return body if self.may_stop else {**body, "ignore_eos": True}


def prompt(seed: str, tokens: int) -> str:
    """About so many tokens: how many it is the server's vocabulary decides, and its template adds some."""
    return " ".join(random.Random(seed).choices(_WORDS, k=tokens))
