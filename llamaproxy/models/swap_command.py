"""A model's command in a configuration of llama-swap: macros, words, and the llama-server call among them.

Runs nothing, and looks into nothing but the text.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llamaproxy.models.options import Option, argument

PORT = "${PORT}"
"""Stays as it is: the engine's port is the gateway's business."""
MACRO = re.compile(r"\$\{([^${}]{1,128})\}")
_LONGEST = 64 * 1024
"""Characters of a text with its macros filled in."""
_DEEPEST = 16
"""Macros within macros."""
_PROGRAM = re.compile(r"(?!-)(?:.*/)?llama-server(?:[-_.][^/]*)?", re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)
_INVISIBLE = frozenset({"env", "exec"})
_WRAPPERS = frozenset("chrt ionice nice nohup numactl stdbuf taskset time".split())

Fill = Callable[[str], str]


class Unfit(Exception):
    """Says why something cannot be taken over."""


@dataclass(frozen=True, slots=True)
class Call:
    """`wrapper` is what llama-server is started by, if it is by something that only changes how it runs."""

    program: str
    words: Sequence[str]
    environment: Sequence[str]
    wrapper: str | None


def filler(macros: Mapping[str, str]) -> Fill:
    """A function that fills in macros, also those within macros. It raises Unfit."""

    def fill(text: str) -> str:
        for _ in range(_DEEPEST):
            if all(macro[0] == PORT for macro in MACRO.finditer(text)):
                return text
            if len(text) > _LONGEST:
                break
            text = MACRO.sub(lambda match: _value(macros, match), text)
        raise Unfit("its macros do not end")

    return fill


def _value(macros: Mapping[str, str], match: re.Match[str]) -> str:
    if match[0] == PORT:
        return PORT
    if (value := macros.get(match[1])) is None:
        raise Unfit(f"nothing is known of the macro {ascii(match[1])[1:-1]}")
    return value


def split(command: str) -> list[str]:
    """The words of a command. Raises Unfit."""
    lines = [line for line in command.splitlines() if not line.lstrip().startswith("#")]
    try:
        return shlex.split("\n".join(lines).replace("\\\n", " "))
    except ValueError as error:
        raise Unfit(f"its command cannot be split: {str(error).lower()}") from error


def call(words: Sequence[str]) -> Call | None:
    """The llama-server call that a command is; None where it runs anything else, or llama-server in something else."""
    start = next((index for index, word in enumerate(words) if _PROGRAM.fullmatch(word)), None)
    if start is None:
        return None
    environment = [word for word in words[:start] if _ASSIGNMENT.fullmatch(word)]
    others = [word for word in words[:start] if word not in environment and word not in _INVISIBLE]
    if others and others[0].rpartition("/")[2] not in _WRAPPERS:
        return None
    return Call(words[start], words[start + 1 :], environment, others[0] if others else None)


def options(words: Sequence[str]) -> Iterator[tuple[Option | None, list[str]]]:
    """The words after the program, each option with its values; None for one that is not known, or for none at all."""
    group: list[str] = []
    option: Option | None = None
    for word in words:
        found = argument(word)
        wanted = len(group) <= option.values if option else bool(group) and _is_flag(group[0]) and not _is_flag(word)
        if group and wanted and not found:
            group.append(word)
            continue
        if group:
            yield option, group
        group, option = [word], found
    if group:
        yield option, group


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not word[1:2].isdigit()
