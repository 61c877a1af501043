"""A configuration on its way in from another program: models whose settings are not checked yet.

Owns what llama-server's options mean for a model of ours: a field, an argument, or nothing, because the gateway sets
it itself. Must not read any file format: `preset_ini` and `llama_swap` do.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from llamaproxy.models.options import Option

Faults = Callable[[Sequence[str]], Iterable[str]]
"""Says of llama-server arguments which are refused, a sentence for each."""

_FIELDS = {
    "--model": "path",
    "--mmproj": "mmproj",
    "--alias": "aliases",
    "--ctx-size": "ctx_size",
    "--batch-size": "batch_size",
    "--threads": "threads",
    "--n-gpu-layers": "gpu_layers",
    "--parallel": "parallel",
}
_DEFAULTS = {"threads": {"-1", "0"}, "gpu_layers": {"-1", "auto"}, "parallel": {"-1"}}
"""Values that leave the choice to the engine."""
_OURS = frozenset({"--host", "--port", "--reuse-port", "--metrics", "--slots"})
"""What the gateway sets itself: nothing is lost without it."""


@dataclass(slots=True)
class Draft:
    """`origin` is where the model stands in its source, for what is told of it."""

    name: str
    origin: str
    fields: dict[str, Any] = field(default_factory=dict)
    args: list[str] = field(default_factory=list)

    def add(self, option: Option | None, words: Sequence[str], faults: Faults) -> Iterable[str]:
        """Takes an option with its values as they stand on a command line; says what does not map.

        One that is not known is an argument like others: a newer llama-server may know it.
        """
        if option and option.name in _OURS:
            return []
        if option and len(words) != option.values + 1:
            return [f"{self.origin}: the argument {words[0]} with {len(words) - 1} values instead of {option.values}"]
        if option and (key := _FIELDS.get(option.name)):
            self._set(key, words[1])
            return []
        reasons = list(faults(words[:1]))
        self.args += [] if reasons else words
        return [f"{self.origin}: {shown(reason)}" for reason in reasons]

    def _set(self, key: str, value: str) -> None:
        """The last one counts, as on a command line."""
        if key == "aliases":
            self.fields[key] = [*self.fields.get(key, []), *filter(None, map(str.strip, value.split(",")))]
            return
        self.fields.pop(key, None)
        if key == "gpu_layers" and value in ("all", "-2"):
            self.fields[key] = -1
        elif value not in _DEFAULTS.get(key, set()):
            self.fields[key] = value


@dataclass(slots=True)
class Plan:
    """`sections` are further tables of the configuration; `unmapped` names what finds no place in any."""

    models: list[Draft] = field(default_factory=list)
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list, repr=False)
    unmapped: list[str] = field(default_factory=list)


def shown(text: object) -> str:
    """A name from outside, fit for one line on a terminal."""
    line = str(text)
    return f"{line if line.isprintable() else ascii(line)[1:-1]:.200}"
