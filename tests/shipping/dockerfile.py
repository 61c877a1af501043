"""Reads a Dockerfile, as far as tests ask about it."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Stage:
    """What one `FROM` begins."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [rest for instruction, rest in self.steps if instruction == word]

    def last(self, word: str) -> str:
        return self.all(word)[-1]

    def command(self, word: str) -> list[str]:
        """The list of `ENTRYPOINT` and the like, which no shell reads."""
        words: list[str] = json.loads(self.last(word).rpartition("CMD ")[2])
        return words

    def pairs(self, word: str) -> dict[str, str]:
        """NAME=VALUE of all `ENV`, `ARG` or `LABEL`."""
        pairs = (pair.partition("=") for rest in self.all(word) for pair in shlex.split(rest))
        return {name: value for name, _, value in pairs}


def stages(text: str) -> dict[str, Stage]:
    """By name."""
    found: dict[str, Stage] = {}
    current = Stage("", "")
    for word, rest in instructions(text):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = found[name] = Stage(name, base)
        else:
            current.steps.append((word, rest))
    return found


def instructions(text: str) -> Iterator[tuple[str, str]]:
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", "", kept).splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield word, rest.strip()
